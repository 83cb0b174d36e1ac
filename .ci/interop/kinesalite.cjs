// Loaded before kinesalite, which keeps records as JSON: data that came as base64 as the text that it is, and data that
// came as bytes of CBOR as {"type": "Buffer", "data": […]}, which no reader of JSON takes for data. So bytes become
// base64 too. It means that only readers of JSON read them; ours are.
Buffer.prototype.toJSON = function () {
  return this.toString("base64");
};

// Loaded before a server of Node's (node --require): whatever port it wants to listen on, it listens on 127.0.0.1
// alone, on a port that is free, and says which. Neither emulator can be told an address, nor say which port it got.
const net = require("node:net");

const { listen } = net.Server.prototype;
net.Server.prototype.listen = function (wanted, ...rest) {
  this.once("listening", () => console.log(`port ${wanted} is 127.0.0.1:${this.address().port}`));
  return listen.call(this, { host: "127.0.0.1", port: 0 }, rest.at(-1));
};

//! The embedded Kinesis endpoint.

//! A blocking HTTP/1.1 client of the plainest kind, signing with AWS's own crate.
//!
//! Nothing in it comes from the endpoint: it writes bytes to a socket and reads what returns.

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, SystemTime};

pub const JSON: &str = "application/x-amz-json-1.1";
pub const CBOR: &str = "application/x-amz-cbor-1.1";

/// One request as it will stand on the wire; a test may spoil any part after signing.
#[derive(Clone)]
pub struct Call {
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// How to sign.
#[derive(Clone)]
pub struct Signer {
    pub access_key_id: String,
    pub secret: String,
    pub token: Option<String>,
    pub region: String,
    pub service: String,
    pub time: SystemTime,
}

impl Default for Signer {
    fn default() -> Signer {
        Signer {
            access_key_id: "test".into(),
            secret: "test".into(),
            token: None,
            region: "us-east-1".into(),
            service: "kinesis".into(),
            time: SystemTime::now(),
        }
    }
}

impl Call {
    pub fn new(operation: &str, content_type: &str, body: impl Into<Vec<u8>>) -> Call {
        let headers = [
            ("host", "localhost"),
            ("content-type", content_type),
            ("x-amz-target", &format!("Kinesis_20131202.{operation}")),
        ];
        Call { headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(), body: body.into() }
    }

    pub fn signed(self) -> Call {
        self.signed_by(&Signer::default())
    }

    pub fn signed_by(mut self, signer: &Signer) -> Call {
        let identity =
            Credentials::new(&signer.access_key_id, &signer.secret, signer.token.clone(), None, "test").into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&signer.region)
            .name(&signer.service)
            .time(signer.time)
            .settings(SigningSettings::default())
            .build()
            .unwrap()
            .into();
        let headers = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let request =
            SignableRequest::new("POST", "http://localhost/", headers, SignableBody::Bytes(&self.body)).unwrap();
        let (instructions, _) = sign(request, &params).unwrap().into_parts();
        let added: Vec<_> = instructions.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        self.headers.extend(added);
        self
    }

    pub fn spoil(mut self, name: &str, change: impl FnOnce(&str) -> String) -> Call {
        let header = self.headers.iter_mut().find(|(known, _)| known == name).expect("a header to spoil");
        header.1 = change(&header.1);
        self
    }

    pub fn without(mut self, name: &str) -> Call {
        self.headers.retain(|(known, _)| known != name);
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"POST / HTTP/1.1\r\n".to_vec();
        for (name, value) in &self.headers {
            bytes.extend(format!("{name}: {value}\r\n").bytes());
        }
        bytes.extend(format!("content-length: {}\r\n\r\n", self.body.len()).bytes());
        bytes.extend(&self.body);
        bytes
    }
}

pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("a body in JSON")
    }

    /// The error code, from a body in JSON.
    pub fn code(&self) -> String {
        self.json()["__type"].as_str().expect("an error code").to_owned()
    }
}

pub struct Client {
    stream: TcpStream,
    /// Bytes of the last answer that arrived, whether or not all did.
    pub received: usize,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).expect("the endpoint listens");
        stream.set_nodelay(true).unwrap();
        // A bound for broken code only: nothing waits for it when the tests pass.
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        Client { stream, received: 0 }
    }

    /// One that does not wait for long, if anybody listens.
    pub fn connect_impatiently(address: SocketAddr, patience: Duration) -> io::Result<Client> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(patience))?;
        Ok(Client { stream, received: 0 })
    }

    pub fn send(&mut self, call: &Call) -> io::Result<Answer> {
        self.stream.write_all(&call.bytes())?;
        self.read()
    }

    pub fn get(&mut self, path: &str) -> io::Result<Answer> {
        self.stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").as_bytes())?;
        self.read()
    }

    /// Whether the endpoint closes the connection while nobody asks for anything; waits for that as long as for an answer.
    pub fn is_closed(&mut self) -> bool {
        matches!(self.stream.read(&mut [0]), Ok(0))
    }

    /// Ends the endpoint's faults.
    pub fn heal(&mut self) -> io::Result<Answer> {
        self.stream.write_all(b"POST /heal HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n")?;
        self.read()
    }

    fn read(&mut self) -> io::Result<Answer> {
        self.received = 0;
        let mut bytes = Vec::new();
        let head_end = loop {
            if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            self.more(&mut bytes)?;
        };
        let head = String::from_utf8(bytes[..head_end].to_vec()).expect("a head in text");
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        let mut answer = Answer { status, headers, body: bytes.split_off(head_end) };
        let length: usize = answer.header("content-length").expect("a length").parse().unwrap();
        while answer.body.len() < length {
            self.more(&mut answer.body)?;
        }
        Ok(answer)
    }

    fn more(&mut self, bytes: &mut Vec<u8>) -> io::Result<()> {
        let mut chunk = [0; 64 * 1024];
        match self.stream.read(&mut chunk)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            length => {
                self.received += length;
                bytes.extend(&chunk[..length]);
                Ok(())
            }
        }
    }
}

/// A record to put.
pub struct Record<'a> {
    pub data: &'a [u8],
    pub key: &'a str,
    pub hash: Option<&'a str>,
}

/// A PutRecords body in CBOR, written by `ciborium`.
pub fn cbor_body(stream: &str, records: &[Record<'_>]) -> Vec<u8> {
    use ciborium::Value;
    let text = |text: &str| Value::Text(text.to_owned());
    let records = records.iter().map(|record| {
        let mut fields =
            vec![(text("Data"), Value::Bytes(record.data.to_vec())), (text("PartitionKey"), text(record.key))];
        fields.extend(record.hash.map(|hash| (text("ExplicitHashKey"), text(hash))));
        Value::Map(fields)
    });
    let body = Value::Map(vec![(text("StreamName"), text(stream)), (text("Records"), Value::Array(records.collect()))]);
    let mut bytes = Vec::new();
    ciborium::into_writer(&body, &mut bytes).unwrap();
    bytes
}

/// A PutRecords body in JSON.
pub fn json_body(stream: &str, records: &[Record<'_>]) -> Vec<u8> {
    use base64::prelude::{BASE64_STANDARD, Engine};
    let records: Vec<_> = records
        .iter()
        .map(|record| {
            let mut entry =
                serde_json::json!({ "Data": BASE64_STANDARD.encode(record.data), "PartitionKey": record.key });
            if let Some(hash) = record.hash {
                entry["ExplicitHashKey"] = hash.into();
            }
            entry
        })
        .collect();
    serde_json::json!({ "StreamName": stream, "Records": records }).to_string().into_bytes()
}

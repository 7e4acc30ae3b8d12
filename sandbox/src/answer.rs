//! Small pieces that the fakes' answers are made of.

use base64::Engine;
use http::Response;
use serde_json::Value;

/// A JSON answer.
pub(crate) fn json(status: u16, body: &Value) -> Response<Vec<u8>> {
    raw(status, "application/json", body.to_string().into_bytes())
}

/// An answer with any body.
pub(crate) fn raw(status: u16, content_type: &str, body: Vec<u8>) -> Response<Vec<u8>> {
    Response::builder()
        .status(status)
        .header("content-type", content_type)
        .body(body)
        .expect("a status and a content type make a response")
}

/// The same answer with one more header.
pub(crate) fn with_header(mut response: Response<Vec<u8>>, name: &'static str, value: &str) -> Response<Vec<u8>> {
    if let Ok(value) = http::HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
    response
}

/// The body of a request as JSON; null when it is none.
pub(crate) fn body(request: &http::Request<Vec<u8>>) -> Value {
    serde_json::from_slice(request.body()).unwrap_or(Value::Null)
}

/// A header of a request.
pub(crate) fn header<'a>(request: &'a http::Request<Vec<u8>>, name: &str) -> Option<&'a str> {
    request.headers().get(name).and_then(|value| value.to_str().ok())
}

/// The query of a request, decoded.
#[derive(Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub fn parse(text: &str) -> Query {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        });
        Query(pairs.collect())
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// All values of a list, written as `name=a,b`, as `name[]=a&name[]=b`, or both.
    pub fn list(&self, name: &str) -> Vec<&str> {
        let named = |known: &str| known == name || known.strip_suffix("[]") == Some(name);
        let pairs = self.0.iter().filter(|(known, _)| named(known));
        pairs.flat_map(|(_, value)| value.split(',')).filter(|value| !value.is_empty()).collect()
    }

    /// The names of everything that is asked for.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    pub fn number(&self, name: &str) -> Option<u64> {
        self.get(name).and_then(|value| value.parse().ok())
    }
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digits = [rest.next().unwrap_or(b'0'), rest.next().unwrap_or(b'0')];
                let digits = String::from_utf8_lossy(&digits).into_owned();
                bytes.push(u8::from_str_radix(&digits, 16).unwrap_or(b'?'));
            }
            byte => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Decodes standard base64, for basic authentication.
pub(crate) fn base64(text: &str) -> Option<String> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).ok()?;
    String::from_utf8(bytes).ok()
}

/// Encodes as standard base64, for signatures.
pub(crate) fn to_base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// Where a request says it was sent, with the instance: what a server builds the addresses in its answers from.
pub(crate) fn base(request: &http::Request<Vec<u8>>, instance: &str) -> String {
    let host = header(request, "host").or(request.uri().authority().map(|at| at.as_str())).unwrap_or("localhost");
    format!("http://{host}/{instance}/")
}

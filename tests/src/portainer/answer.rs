//! Answers in Portainer's shapes.

use bytes::Bytes;
use http::{Response, StatusCode, header};
use http_body_util::Full;
use serde_json::{Value, json};

/// What a handler gives back.
pub(super) type Answer = Response<Full<Bytes>>;

/// A refusal: `{"message", "details"}`.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    message: String,
    details: String,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, message: &str, details: impl AsRef<str>) -> Self {
        Self {
            status,
            message: message.to_owned(),
            details: capitalised(details.as_ref()),
        }
    }

    pub(super) fn payload(details: impl AsRef<str>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "Invalid request payload", details)
    }

    /// Of the server itself, such as a full disk.
    pub(super) fn broken(message: &str, error: &std::io::Error) -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            message,
            error.to_string(),
        )
    }
}

/// The first letter of details is a capital.
fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(characters).collect()
    })
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        let body = json!({"message": refusal.message, "details": refusal.details});
        json_answer(refusal.status, &body)
    }
}

/// A JSON body.
pub(super) fn json_answer(status: StatusCode, body: &Value) -> Answer {
    with_type(status, "application/json", body.to_string())
}

/// 204.
pub(super) fn empty() -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    answer
}

/// Text, as the router and the CSRF guard answer.
pub(super) fn text(status: StatusCode, body: &str) -> Answer {
    with_type(status, "text/plain; charset=utf-8", body.to_owned())
}

/// Any body.
pub(super) fn with_type(status: StatusCode, kind: &'static str, body: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    let kind = header::HeaderValue::from_static(kind);
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}

//! Results and refusals of API calls, and the shapes they take on the wire.

use serde_json::{Map, Value, json};

use super::wire::Answer;

const JSON: &str = "application/json;charset=UTF-8";

/// What a successful call returns.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) data: Value,
    /// Goes beside `data` when it is not zero.
    pub(super) total: usize,
}

impl From<Value> for Outcome {
    fn from(data: Value) -> Self {
        Self { data, total: 0 }
    }
}

/// A refused or failed call.
#[derive(Debug, Clone)]
pub(super) struct ApiError {
    pub(super) status: u16,
    /// Ends with a newline, as Perl's do.
    pub(super) message: String,
    pub(super) errors: Option<Map<String, Value>>,
}

impl ApiError {
    /// `die "text\n"`.
    pub(super) fn died(text: impl std::fmt::Display) -> Self {
        Self {
            status: 500,
            message: format!("{text}\n"),
            errors: None,
        }
    }

    /// `raise_param_exc`.
    pub(super) fn parameters(errors: Map<String, Value>) -> Self {
        Self {
            status: 400,
            message: "Parameter verification failed.\n".to_owned(),
            errors: Some(errors),
        }
    }

    /// `raise_param_exc` about one parameter.
    pub(super) fn parameter(name: &str, text: &str) -> Self {
        Self::parameters(Map::from_iter([(name.to_owned(), json!(text))]))
    }

    /// `raise_perm_exc`.
    pub(super) fn permission(what: &str) -> Self {
        let message = format!("Permission check failed ({what})\n");
        Self {
            status: 403,
            message,
            errors: None,
        }
    }

    /// No handler for the path with that verb.
    pub(super) fn not_implemented(method: &str, path: &str) -> Self {
        // Without a newline there: it is not the text of an exception.
        let message = format!("Method '{method} {path}' not implemented");
        Self {
            status: 501,
            message,
            errors: None,
        }
    }
}

/// The word after `/api2/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    /// What the web interface uses: always HTTP 200, the status is in the body.
    ExtJs,
}

/// An answer, or what happens instead when the text does not fit into a status line.
#[derive(Debug)]
pub(super) enum Rendered {
    Answer(Answer),
    /// A character above U+00FF in the status line ends the worker that was writing it.
    Crash,
}

/// Puts a result into the shape of `format`.
pub(super) fn render(format: Format, result: Result<Outcome, ApiError>) -> Rendered {
    let mut body = Map::new();
    let (status, reason) = match result {
        Ok(outcome) => {
            body.insert("data".to_owned(), outcome.data);
            if format == Format::ExtJs {
                body.insert("success".to_owned(), json!(1));
            }
            if outcome.total > 0 {
                body.insert("total".to_owned(), json!(outcome.total));
            }
            (200, "OK".to_owned())
        }
        Err(error) => {
            body.insert("message".to_owned(), json!(error.message));
            body.insert("data".to_owned(), Value::Null);
            if let Some(errors) = error.errors {
                body.insert("errors".to_owned(), Value::Object(errors));
            }
            if format == Format::ExtJs {
                // Codes of exceptions have been strings once, and Perl remembers.
                let status = match error.status {
                    400 | 403 => json!(error.status.to_string()),
                    status => json!(status),
                };
                body.insert("status".to_owned(), status);
                body.insert("success".to_owned(), json!(0));
                (200, "OK".to_owned())
            } else {
                (error.status, error.message)
            }
        }
    };
    let answer = Answer {
        status,
        reason,
        content_type: Some(JSON),
        body: Value::Object(body).to_string().into_bytes(),
        ..Answer::default()
    };
    if answer
        .first_line()
        .chars()
        .any(|character| u32::from(character) > 0xff)
    {
        return Rendered::Crash;
    }
    Rendered::Answer(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(rendered: Rendered) -> (u16, String, Value) {
        let Rendered::Answer(answer) = rendered else {
            panic!("crashed")
        };
        let first = answer.first_line().to_owned();
        (
            answer.status,
            first,
            serde_json::from_slice(&answer.body).expect("json"),
        )
    }

    #[test]
    fn errors_in_both_formats() {
        let error = ApiError::parameter("command", "property is missing and it is not optional");
        let (status, reason, json) = body(render(Format::Json, Err(error.clone())));
        assert_eq!(
            (status, reason.as_str()),
            (400, "Parameter verification failed.")
        );
        assert_eq!(
            json,
            json!({"message": "Parameter verification failed.\n", "data": null,
                   "errors": {"command": "property is missing and it is not optional"}})
        );
        let (status, _, json) = body(render(Format::ExtJs, Err(error)));
        assert_eq!(status, 200);
        assert_eq!(json["success"], 0);
        assert_eq!(json["status"], "400");
        assert_eq!(
            json["errors"]["command"],
            "property is missing and it is not optional"
        );
        assert_eq!(
            body(render(
                Format::ExtJs,
                Err(ApiError::died("VM 102 is not running"))
            ))
            .2,
            json!({"message": "VM 102 is not running\n", "data": null, "status": 500, "success": 0})
        );
    }

    #[test]
    fn a_wide_character_crashes_the_json_format_alone() {
        let error = ApiError::died("Failed to execute child process “/x”");
        assert!(matches!(
            render(Format::Json, Err(error.clone())),
            Rendered::Crash
        ));
        assert!(matches!(
            render(Format::ExtJs, Err(error)),
            Rendered::Answer(_)
        ));
        let narrow = ApiError::died("größer");
        let Rendered::Answer(answer) = render(Format::Json, Err(narrow)) else {
            panic!()
        };
        let (wire, _) = answer.encode(true);
        assert!(wire.starts_with(b"HTTP/1.1 500 gr\xf6\xdfer\r\n"));
    }
}

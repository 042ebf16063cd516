//! What goes over the pipes: length-prefixed JSON frames.
//!
//! Every cell travels as text that DuckDB itself made, so that no worker, in whatever language,
//! can round a number or bend a date: a worker only moves text.

use serde::{Deserialize, Serialize};
use std::io::{self, Read, Write};
use unship_core::value::Value;

/// The version both sides must agree on.
pub const PROTOCOL: u32 = 1;

/// No frame is larger than this many bytes; a larger length is garbage on the pipe.
pub const MAX_FRAME: usize = 1 << 28;

/// One row as it travels: text or `NULL`.
pub type TextRow = Vec<Option<String>>;

/// A request with the number its answers carry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RequestFrame {
    /// Grows by one per request.
    pub id: u64,
    /// What is asked.
    pub request: Request,
}

/// What a worker can be asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Request {
    /// Start afresh with an empty in-memory database; files are attached by SQL.
    Connect,
    /// Run one statement and throw its rows away.
    Execute {
        /// The statement.
        sql: String,
        /// Its parameters.
        params: Vec<Param>,
    },
    /// Run one statement whose columns are all text.
    Query {
        /// The statement.
        sql: String,
        /// Its parameters.
        params: Vec<Param>,
    },
    /// Interrupt the request of that number, if it is still running. Has no answer.
    Cancel {
        /// The number of the request to interrupt.
        target: u64,
    },
    /// Close the database; what is committed goes into the file.
    Close,
    /// Close and exit.
    Shutdown,
}

/// An answer with the number of the request that it belongs to (0 for the first frame).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnswerFrame {
    /// The request's number.
    pub id: u64,
    /// What is answered.
    pub answer: Answer,
}

/// What a worker answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Answer {
    /// The first frame of a worker that is ready.
    Hello {
        /// The protocol that it speaks.
        protocol: u32,
        /// The version of its DuckDB.
        duckdb: String,
        /// Its process.
        pid: u32,
    },
    /// Some rows of a query; more frames may follow until `Done`.
    Rows {
        /// The rows.
        rows: Vec<TextRow>,
    },
    /// The request is finished.
    Done,
    /// The request failed, with DuckDB's own message.
    Failed {
        /// The message.
        message: String,
    },
}

/// A statement's parameter: its kind and its text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Param(pub ParamKind, pub Option<String>);

/// How a parameter's text is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ParamKind {
    /// `true` or `false`.
    Bool,
    /// A decimal integer.
    Int,
    /// A floating-point number, `NaN`, `inf` or `-inf`.
    Float,
    /// The text itself.
    Text,
    /// Hexadecimal digits.
    Bytes,
}

impl From<&Value> for Param {
    fn from(value: &Value) -> Self {
        match value {
            Value::Null => Param(ParamKind::Text, None),
            Value::Bool(b) => Param(ParamKind::Bool, Some(b.to_string())),
            Value::Int(i) => Param(ParamKind::Int, Some(i.to_string())),
            Value::Float(x) => Param(ParamKind::Float, Some(x.to_string())),
            Value::Text(s) => Param(ParamKind::Text, Some(s.clone())),
            Value::Bytes(b) => Param(ParamKind::Bytes, Some(hex(b))),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// The bytes that hexadecimal digits stand for, or `None` if these are not such digits.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    digits
        .chunks_exact(2)
        .map(|pair| {
            let high = char::from(pair[0]).to_digit(16)?;
            let low = char::from(pair[1]).to_digit(16)?;
            u8::try_from(high * 16 + low).ok()
        })
        .collect()
}

/// Writes one frame and flushes.
///
/// # Errors
/// When the pipe is closed, or the message is larger than [`MAX_FRAME`].
pub fn write_frame<T: Serialize>(pipe: &mut impl Write, message: &T) -> io::Result<()> {
    let body = serde_json::to_vec(message)?;
    let size = u32::try_from(body.len())
        .ok()
        .filter(|_| body.len() <= MAX_FRAME)
        .ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "a message of {} bytes does not fit a frame of {MAX_FRAME} bytes",
                    body.len()
                ),
            )
        })?;
    pipe.write_all(&size.to_be_bytes())?;
    pipe.write_all(&body)?;
    pipe.flush()
}

/// Reads one frame; `None` when the pipe ends between two frames.
///
/// # Errors
/// When the pipe ends inside a frame or holds something that is not one.
pub fn read_frame<T: for<'de> Deserialize<'de>>(pipe: &mut impl Read) -> io::Result<Option<T>> {
    let mut head = [0; 4];
    let mut filled = 0;
    while filled < head.len() {
        match pipe.read(&mut head[filled..]) {
            Ok(0) if filled == 0 => return Ok(None),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let size = u32::from_be_bytes(head);
    if size as usize > MAX_FRAME {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a frame of {size} bytes is announced: this is not a worker's answer"),
        ));
    }
    // Read as it comes: a length that lies must not reserve memory.
    let mut body = Vec::new();
    pipe.take(u64::from(size)).read_to_end(&mut body)?;
    if body.len() != size as usize {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(serde_json::from_slice(&body)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn frames_come_back(sql in ".*", bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let frame = RequestFrame {
                id: 7,
                request: Request::Query { sql, params: vec![Param::from(&Value::Bytes(bytes.clone()))] },
            };
            let mut pipe = Vec::new();
            write_frame(&mut pipe, &frame).unwrap();
            let back: RequestFrame = read_frame(&mut pipe.as_slice()).unwrap().unwrap();
            prop_assert_eq!(&back, &frame);
            let Request::Query { params, .. } = back.request else { panic!("not a query") };
            prop_assert_eq!(unhex(params[0].1.as_deref().unwrap()).unwrap(), bytes);
        }

        #[test]
        fn garbage_is_an_error_or_an_end(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let answer = read_frame::<AnswerFrame>(&mut bytes.as_slice());
            prop_assert!(matches!(answer, Ok(None) | Err(_)));
        }

        #[test]
        fn unhex_never_panics(text in ".*") {
            let _ = unhex(&text);
        }
    }

    #[test]
    fn a_pipe_that_ends_inside_a_frame_is_an_error() {
        let mut pipe = Vec::new();
        write_frame(
            &mut pipe,
            &AnswerFrame {
                id: 1,
                answer: Answer::Done,
            },
        )
        .unwrap();
        pipe.pop();
        assert!(read_frame::<AnswerFrame>(&mut pipe.as_slice()).is_err());
    }
}

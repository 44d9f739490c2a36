//! As much of PostgreSQL's protocol as it takes to see commits and claims go by.

use std::collections::{HashMap, VecDeque};

/// A request of a node. Each is answered in its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Commit,
    /// It takes tasks of nodes that have gone.
    Claim,
    Other,
}

impl Request {
    fn of(statement: &[u8]) -> Self {
        let has = |word: &[u8]| statement.windows(word.len()).any(|part| part == word);
        if has(b".change(") || statement.starts_with(b"COMMIT") {
            Request::Commit
        } else if has(b".claim(") {
            Request::Claim
        } else {
            Request::Other
        }
    }
}

/// A message of a client.
#[derive(Default)]
pub(crate) struct Requests {
    messages: Messages,
    /// The first message has no kind.
    has_begun: bool,
    prepared: HashMap<Vec<u8>, Request>,
    bound: Option<Request>,
}

impl Requests {
    /// The requests that these bytes complete.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Vec<Request> {
        let mut requests = Vec::new();
        self.messages.add(bytes);
        if !self.has_begun {
            if self.messages.first().is_none() {
                return requests;
            }
            self.has_begun = true;
            requests.push(Request::Other);
        }
        while let Some((kind, body)) = self.messages.next() {
            match kind {
                b'P' => {
                    let (name, rest) = word(&body);
                    let (text, _) = word(rest);
                    self.prepared.insert(name.to_owned(), Request::of(text));
                }
                b'B' => {
                    let (_portal, rest) = word(&body);
                    let (name, _) = word(rest);
                    self.bound = self.prepared.get(name).copied();
                }
                b'S' => requests.push(self.bound.take().unwrap_or(Request::Other)),
                b'Q' => requests.push(Request::of(word(&body).0)),
                _ => {}
            }
        }
        requests
    }
}

/// An answer of a server.
#[derive(Default)]
pub(crate) struct Answers(Messages);

impl Answers {
    /// Reads on, as the answers to these requests, which it removes. `true` if there is a row for a claim.
    pub(crate) fn read(&mut self, bytes: &[u8], requests: &mut VecDeque<Request>) -> bool {
        let mut claimed = false;
        self.0.add(bytes);
        while let Some((kind, _)) = self.0.next() {
            match kind {
                b'D' => claimed |= requests.front() == Some(&Request::Claim),
                b'Z' => {
                    requests.pop_front();
                }
                _ => {}
            }
        }
        claimed
    }
}

/// Bytes as messages.
#[derive(Default)]
struct Messages(Vec<u8>);

impl Messages {
    fn add(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// The first message of a client.
    fn first(&mut self) -> Option<Vec<u8>> {
        self.take(0)
    }

    /// A message, with its kind.
    fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        let kind = *self.0.first()?;
        let body = self.take(1)?;
        Some((kind, body))
    }

    /// The body after so many bytes and its length, which counts itself.
    fn take(&mut self, at: usize) -> Option<Vec<u8>> {
        let length = self.0.get(at..at + 4)?;
        let length = u32::from_be_bytes(length.try_into().unwrap()) as usize;
        let body = self.0.get(at + 4..at + length)?.to_owned();
        self.0.drain(..at + length);
        Some(body)
    }
}

/// A text that a zero ends, and the rest.
fn word(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|byte| *byte == 0);
    let end = end.unwrap_or(bytes.len());
    (&bytes[..end], bytes.get(end + 1..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: &[u8], body: &[u8]) -> Vec<u8> {
        let length = (body.len() as u32 + 4).to_be_bytes();
        [kind, &length, body].concat()
    }

    #[test]
    fn requests_are_known_by_what_was_prepared() {
        let sent = [
            message(b"", b"\0\x03\0\0user\0me\0\0"),
            message(b"P", b"s0\0SELECT * FROM \"x\".change($1)\0\0\0"),
            message(b"S", b""),
            message(b"P", b"s1\0SELECT * FROM \"x\".claim($1)\0\0\0"),
            message(b"B", b"\0s0\0.."),
            message(b"E", b"\0...."),
            message(b"S", b""),
            message(b"B", b"\0s1\0.."),
            message(b"S", b""),
            message(b"Q", b"COMMIT\0"),
            message(b"X", b""),
        ]
        .concat();
        let expected = [
            Request::Other,
            Request::Other,
            Request::Commit,
            Request::Claim,
            Request::Commit,
        ];
        // However they come.
        for size in [1, 7, sent.len()] {
            let mut requests = Requests::default();
            let read: Vec<_> = sent
                .chunks(size)
                .flat_map(|bytes| requests.read(bytes))
                .collect();
            assert_eq!(read, expected, "{size}");
        }
    }

    #[test]
    fn a_claims_rows_are_seen() {
        let mut requests = VecDeque::from([Request::Other, Request::Claim]);
        let mut answers = Answers::default();
        let (row, ready) = (message(b"D", b".."), message(b"Z", b"I"));
        assert!(!answers.read(&[&row[..], &ready[..]].concat(), &mut requests));
        assert!(!answers.read(&row[..3], &mut requests));
        assert!(answers.read(&row[3..], &mut requests));
        assert!(!answers.read(&ready, &mut requests));
        assert!(requests.is_empty());
    }
}

//! A reader of CSV rows that have a bounded length.

use std::io::{self, BufRead};

use ::csv::ByteRecord;

/// A row as it was read. A bad one comes with the reason.
pub(super) enum Row {
    Fields(ByteRecord),
    Bad(String),
}

/// Reads rows. It exists because the reader of the crate `csv` has no bound on a row's length, so
/// that one quote that isn't closed would read a whole file into memory.
pub(super) struct Rows<B> {
    reader: B,
    /// The line ends that were read.
    ends: u64,
    /// The line on which the last row begins.
    line: u64,
    fields: Fields,
}

/// The place of the next byte within a field.
#[derive(Clone, Copy, PartialEq)]
enum At {
    Start,
    Plain,
    Quoted,
    /// After a quote within quotes: the end of the field, or the first half of a quote.
    Quote,
}

/// The fields of the row that is being read.
struct Fields {
    delimiter: u8,
    longest: usize,
    done: ByteRecord,
    field: Vec<u8>,
    at: At,
    length: usize,
}

impl<B: BufRead> Rows<B> {
    pub(super) fn new(reader: B, delimiter: u8, longest: usize) -> Self {
        Rows {
            reader,
            ends: 0,
            line: 1,
            fields: Fields {
                delimiter,
                longest,
                done: ByteRecord::new(),
                field: Vec::new(),
                at: At::Start,
                length: 0,
            },
        }
    }

    /// Skips the byte order mark with which some programs begin a file. If the reader's first chunk
    /// has fewer than three bytes, the mark stays.
    pub(super) fn skip_mark(&mut self) -> io::Result<()> {
        if self.reader.fill_buf()?.starts_with(b"\xef\xbb\xbf") {
            self.reader.consume(3);
        }
        Ok(())
    }

    /// The line on which the last row begins, counted from 1.
    pub(super) fn line(&self) -> u64 {
        self.line
    }

    /// Bytes of memory that the row takes.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.fields.field.capacity() + self.fields.done.as_slice().len()
    }

    /// The next row that isn't an empty line.
    pub(super) fn next(&mut self) -> io::Result<Option<Row>> {
        loop {
            self.line = self.ends + 1;
            self.fields.clear();
            let at_end = self.read()?;
            if self.fields.length > 0 {
                return Ok(Some(self.fields.row()));
            }
            if at_end {
                return Ok(None);
            }
        }
    }

    /// Reads up to the end of a row. `true` if nothing comes after it.
    fn read(&mut self) -> io::Result<bool> {
        let fields = &mut self.fields;
        // A carriage return belongs to a line end, or else to the field.
        let mut held = false;
        loop {
            let buffer = match self.reader.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                buffer => buffer?,
            };
            if buffer.is_empty() {
                return Ok(true);
            }
            let mut used = 0;
            let mut ended = false;
            for &byte in buffer {
                used += 1;
                self.ends += u64::from(byte == b'\n');
                if fields.at == At::Quoted {
                    fields.take(byte);
                    continue;
                }
                if byte == b'\n' {
                    ended = true;
                    break;
                }
                if std::mem::replace(&mut held, byte == b'\r') {
                    fields.take(b'\r');
                }
                if !held {
                    fields.take(byte);
                }
            }
            self.reader.consume(used);
            if ended {
                return Ok(false);
            }
        }
    }
}

impl Fields {
    fn clear(&mut self) {
        self.done.clear();
        self.field.clear();
        self.at = At::Start;
        self.length = 0;
    }

    fn take(&mut self, byte: u8) {
        self.length += 1;
        if self.length > self.longest {
            self.done.clear();
            self.field.clear();
        }
        self.at = match (self.at, byte) {
            (At::Start, b'"') => At::Quoted,
            (At::Quoted, b'"') => At::Quote,
            (At::Quoted, _) | (At::Quote, b'"') => {
                self.push(byte);
                At::Quoted
            }
            (_, byte) if byte == self.delimiter => {
                if self.length <= self.longest {
                    self.done.push_field(&self.field);
                }
                self.field.clear();
                At::Start
            }
            _ => {
                self.push(byte);
                At::Plain
            }
        };
    }

    fn push(&mut self, byte: u8) {
        if self.length <= self.longest {
            self.field.push(byte);
        }
    }

    fn row(&mut self) -> Row {
        if self.length > self.longest {
            return Row::Bad(format!("longer than {} bytes", self.longest));
        }
        if self.at == At::Quoted {
            return Row::Bad("a quote is not closed, so the rest of the input is lost".to_owned());
        }
        self.done.push_field(&self.field);
        Row::Fields(std::mem::take(&mut self.done))
    }
}

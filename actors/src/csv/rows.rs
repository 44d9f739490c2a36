//! A reader of CSV rows that have a bounded length.

use std::io;

use ::csv::ByteRecord;

use super::{Boxed, Position};
use crate::{input::Input, lines::too_long};

/// A row as it was read. A bad one comes with the reason.
pub(super) enum Row {
    Fields(ByteRecord),
    Bad(Boxed),
}

/// Reads rows. It exists because the reader of the crate `csv` has no bound on a row's length, so
/// that one quote that isn't closed would read a whole file into memory.
pub(super) struct Rows<'a> {
    input: Input<'a>,
    /// An error that came while it looked for the second half of a line's end.
    failed: Option<io::Error>,
    /// The line ends that were read.
    ends: u64,
    /// The last byte was a carriage return, so a line feed belongs to it.
    after_return: bool,
    /// Something comes after the last line end.
    in_line: bool,
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

impl<'a> Rows<'a> {
    pub(super) fn new(input: Input<'a>, delimiter: u8, longest: usize) -> Self {
        Rows {
            input,
            failed: None,
            ends: 0,
            after_return: false,
            in_line: false,
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

    /// The line on which the last row begins, counted from 1.
    pub(super) fn line(&self) -> u64 {
        self.line
    }

    /// The place after the last row.
    pub(super) fn position(&self) -> Position {
        Position {
            line: self.ends + u64::from(self.in_line),
            byte: self.input.byte(),
        }
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
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let fields = &mut self.fields;
        loop {
            let buffer = self.input.fill()?;
            if buffer.is_empty() {
                return Ok(true);
            }
            let mut used = 0;
            let mut ended = false;
            for &byte in buffer {
                used += 1;
                let ends = byte == b'\r' || byte == b'\n';
                self.ends += u64::from(ends && !(byte == b'\n' && self.after_return));
                self.after_return = byte == b'\r';
                self.in_line = !ends;
                if ends && fields.at != At::Quoted {
                    ended = true;
                    break;
                }
                fields.take(byte);
            }
            self.input.consume(used);
            if ended {
                self.finish_end();
                return Ok(false);
            }
        }
    }

    /// Takes the second half of a line's end, if it has one.
    fn finish_end(&mut self) {
        if !self.after_return {
            return;
        }
        match self.input.fill() {
            Ok([b'\n', ..]) => {
                self.input.consume(1);
                self.after_return = false;
            }
            Ok(_) => {}
            // The row is whole.
            Err(error) => self.failed = Some(error),
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
            return Row::Bad(too_long(self.longest));
        }
        if self.at == At::Quoted {
            return Row::Bad("a quote is not closed, so the rest of the input is lost".into());
        }
        self.done.push_field(&self.field);
        Row::Fields(std::mem::take(&mut self.done))
    }
}

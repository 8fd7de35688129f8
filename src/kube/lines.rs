//! Bytes into lines, for a stream that brings one JSON document a line.
//!
//! Pure over [`Read`]: it knows neither HTTP nor JSON. A line has a limit, so that a server can't
//! make us hold more, and a line torn by the end of the stream is never handed out.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read};

/// A watch line holds one object (etcd refuses above about 1.5 MiB) and its managedFields.
pub const LINE_LIMIT_BYTES: usize = 8 * 1024 * 1024;
const READ_BYTES: usize = 16_384;
/// A buffer that a huge line has grown isn't kept for the hours the watch may go on.
const KEPT_BYTES: usize = 262_144;

/// Why no line could be read.
#[derive(Debug)]
pub enum LineError {
    /// The line exceeds the limit; the rest of the stream is of no use.
    TooLong {
        /// The limit in bytes.
        limit: usize,
    },
    /// The stream failed.
    Io(io::Error),
}

impl fmt::Display for LineError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LineError::TooLong { limit } => {
                write!(formatter, "a line exceeds {} MiB", limit >> 20)
            }
            LineError::Io(error) => error.fmt(formatter),
        }
    }
}

/// Hands out the lines of a stream.
pub struct Lines<R> {
    reader: BufReader<R>,
    limit: usize,
    line: Vec<u8>,
    has_ended: bool,
}

impl<R: Read> Lines<R> {
    /// Lines of at most `limit` bytes.
    pub fn new(reader: R, limit: usize) -> Lines<R> {
        let reader = BufReader::with_capacity(READ_BYTES, reader);
        Lines { reader, limit, line: Vec::new(), has_ended: false }
    }

    /// The next line without its line feed; none at the stream's end, where an unfinished line is
    /// dropped. Empty lines are left out. After an error the stream has ended: a reader that
    /// failed once may report a clean end the next time.
    pub fn next_line(&mut self) -> Result<Option<&[u8]>, LineError> {
        while !self.has_ended {
            self.line.clear();
            self.line.shrink_to(KEPT_BYTES);
            let most = u64::try_from(self.limit).unwrap_or(u64::MAX).saturating_add(1);
            let read = self.reader.by_ref().take(most).read_until(b'\n', &mut self.line);
            self.has_ended = read.is_err() || !self.line.ends_with(b"\n");
            read.map_err(LineError::Io)?;
            if self.line.len() > self.limit && self.has_ended {
                return Err(LineError::TooLong { limit: self.limit });
            }
            if !self.has_ended && self.line.iter().any(|byte| !byte.is_ascii_whitespace()) {
                self.line.pop();
                return Ok(Some(&self.line));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::{KEPT_BYTES, LINE_LIMIT_BYTES, LineError, Lines};
    use std::io::{self, Read};

    /// Gives its bytes in pieces of the given size, then fails if that is wanted.
    struct Pieces<'a>(&'a [u8], usize, bool);

    impl Read for Pieces<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() && std::mem::take(&mut self.2) {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let count = self.0.len().min(self.1).min(buffer.len());
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    fn all(mut lines: Lines<Pieces<'_>>) -> Result<Vec<String>, LineError> {
        let mut found = Vec::new();
        while let Some(line) = lines.next_line()? {
            found.push(String::from_utf8_lossy(line).into_owned());
        }
        Ok(found)
    }

    #[test]
    fn lines_are_the_same_however_the_bytes_are_cut() {
        for size in 1..12 {
            let lines = Lines::new(Pieces(b"one\n\ntwo two\r\n\nthree\ntorn", size, false), 100);
            assert_eq!(all(lines).unwrap(), ["one", "two two\r", "three"], "pieces of {size}");
        }
    }

    #[test]
    fn a_line_over_the_limit_ends_the_stream_and_one_at_the_limit_does_not() {
        for size in [1, 3, 100] {
            let exact = Lines::new(Pieces(b"12345678\nok\n", size, false), 8);
            assert_eq!(all(exact).unwrap(), ["12345678", "ok"]);
            let mut long = Lines::new(Pieces(b"123456789\nok\n", size, false), 8);
            assert!(matches!(long.next_line(), Err(LineError::TooLong { limit: 8 })));
        }
    }

    #[test]
    fn after_a_failure_the_stream_is_at_its_end_and_the_torn_line_is_dropped() {
        let mut lines = Lines::new(Pieces(b"one\nto", 100, true), 100);
        assert_eq!(lines.next_line().unwrap(), Some(b"one".as_slice()));
        assert!(matches!(lines.next_line(), Err(LineError::Io(_))));
        assert!(lines.next_line().unwrap().is_none());
    }

    #[test]
    fn the_largest_object_etcd_takes_passes_and_its_room_is_given_back() {
        let mut bytes = vec![b'x'; 3 << 19];
        bytes.extend_from_slice(b"\nsmall\n");
        let mut lines = Lines::new(Pieces(&bytes, 5000, false), LINE_LIMIT_BYTES);
        assert_eq!(lines.next_line().unwrap().unwrap().len(), 3 << 19);
        assert_eq!(lines.next_line().unwrap(), Some(b"small".as_slice()));
        assert!(lines.next_line().unwrap().is_none());
        assert!(lines.line.capacity() <= KEPT_BYTES, "{}", lines.line.capacity());
    }

    #[test]
    fn a_limit_is_said_in_mebibytes() {
        let error = LineError::TooLong { limit: LINE_LIMIT_BYTES };
        assert_eq!(error.to_string(), "a line exceeds 8 MiB");
        let error = LineError::Io(io::ErrorKind::TimedOut.into());
        assert_eq!(error.to_string(), "timed out");
    }

    /// Is interrupted by a signal before each piece.
    struct Interrupted<'a>(Pieces<'a>, bool);

    impl Read for Interrupted<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 { Err(io::ErrorKind::Interrupted.into()) } else { self.0.read(buffer) }
        }
    }

    #[test]
    fn a_signal_is_no_failure_of_the_stream() {
        let mut lines = Lines::new(Interrupted(Pieces(b"one\ntwo\n", 3, false), false), 100);
        assert_eq!(lines.next_line().unwrap(), Some(b"one".as_slice()));
        assert_eq!(lines.next_line().unwrap(), Some(b"two".as_slice()));
        assert!(lines.next_line().unwrap().is_none());
    }
}

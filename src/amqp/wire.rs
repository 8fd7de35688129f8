//! Frames and fields of AMQP 0-9-1 as bytes. Methods are written by class and number, as there.

use zeroize::Zeroizing;

use super::Error;

/// Longer frames are refused, also before the limit is agreed upon. A body takes as many as it needs.
pub(super) const FRAME_LIMIT_BYTES: u32 = 32 * 1024;
/// Types of frames.
pub(super) const METHOD: u8 = 1;
pub(super) const HEADER: u8 = 2;
pub(super) const BODY: u8 = 3;
pub(super) const HEARTBEAT: u8 = 8;
const FRAME_END: u8 = 0xCE;

/// One frame, without its end byte.
pub(super) struct Frame<'a> {
    pub(super) kind: u8,
    pub(super) channel: u16,
    pub(super) payload: &'a [u8],
}

impl Frame<'_> {
    /// The first frame, and what follows it; none if it isn't all there.
    pub(super) fn first(bytes: &[u8]) -> Result<Option<(Frame<'_>, &[u8])>, Error> {
        let kind = match bytes {
            [] => return Ok(None),
            [kind @ (METHOD | HEADER | BODY | HEARTBEAT), ..] => *kind,
            _ => return Err(Error::not_amqp(bytes)),
        };
        let mut fields = Fields(&bytes[1..]);
        let (Ok(channel), Ok(length)) = (fields.u16(), fields.u32()) else { return Ok(None) };
        if length > FRAME_LIMIT_BYTES {
            return Err(Error::Malformed("a frame above the limit"));
        }
        match fields.0.split_at_checked(length as usize) {
            Some((payload, [FRAME_END, rest @ ..])) => {
                Ok(Some((Frame { kind, channel, payload }, rest)))
            }
            Some((_, [_, ..])) => Err(Error::Malformed("a frame without its end byte")),
            _ => Ok(None),
        }
    }
}

/// Reads fields one after another.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Error> {
        let cut = Error::Malformed("a frame that ends within a field");
        let (taken, rest) = self.0.split_at_checked(count).ok_or(cut)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const COUNT: usize>(&mut self) -> Result<[u8; COUNT], Error> {
        Ok(self.take(COUNT)?.try_into().unwrap_or([0; COUNT]))
    }

    pub(super) fn u16(&mut self) -> Result<u16, Error> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Error> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Error> {
        self.array().map(u64::from_be_bytes)
    }

    /// A text of at most 255 bytes, in one line whatever is in it.
    pub(super) fn short(&mut self) -> Result<String, Error> {
        let [length] = self.array()?;
        let text = String::from_utf8_lossy(self.take(length.into())?);
        Ok(text.replace(char::is_control, " "))
    }

    /// A text or table of any length, unread.
    pub(super) fn long(&mut self) -> Result<&'a [u8], Error> {
        let length = self.u32()?;
        self.take(length as usize)
    }

    /// Code and words of a close, of a connection or a channel.
    pub(super) fn refusal(&mut self) -> Result<String, Error> {
        let (code, text) = (self.u16()?, self.short()?);
        // A queue is named anew each time; equal refusals should read equal.
        let (before, name) = text.split_once("amq.gen-").unwrap_or((&text, ""));
        let is_name =
            |character: char| character.is_ascii_alphanumeric() || "-_".contains(character);
        let queue = if before.len() < text.len() { "amq.gen-*" } else { "" };
        Ok(format!("{code} {before}{queue}{}", name.trim_start_matches(is_name)))
    }
}

/// A method, or a table's entries, as they are written. Wiped, for one holds a password.
#[derive(Default)]
pub(super) struct Bytes(pub(super) Zeroizing<Vec<u8>>);

impl Bytes {
    /// A method without arguments yet.
    pub(super) fn method(class: u16, method: u16) -> Bytes {
        Bytes::default().u16(class).u16(method)
    }

    pub(super) fn u8(self, number: u8) -> Bytes {
        self.raw(&[number])
    }

    pub(super) fn u16(self, number: u16) -> Bytes {
        self.raw(&number.to_be_bytes())
    }

    pub(super) fn u32(self, number: u32) -> Bytes {
        self.raw(&number.to_be_bytes())
    }

    /// A short text. The format has no room for more than 255 bytes; a longer one is cut off.
    pub(super) fn short(self, text: &str) -> Bytes {
        let length = u8::try_from(text.len()).unwrap_or(u8::MAX);
        self.u8(length).raw(&text.as_bytes()[..length.into()])
    }

    /// A long text, or a table's entries.
    pub(super) fn long(self, bytes: &[u8]) -> Bytes {
        self.u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX)).raw(bytes)
    }

    fn raw(mut self, bytes: &[u8]) -> Bytes {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Appends a frame with this payload.
    pub(super) fn frame(&self, kind: u8, channel: u16, output: &mut Vec<u8>) {
        let frame = Bytes::default().u8(kind).u16(channel).long(&self.0).u8(FRAME_END);
        output.extend_from_slice(&frame.0);
    }
}

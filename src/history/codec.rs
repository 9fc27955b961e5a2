//! How records and blocks are written: numbers of variable length, and texts behind their lengths.

use crate::digest::Digest;

/// Bytes in the making.
#[derive(Clone, Default)]
pub struct Encoder(Vec<u8>);

impl Encoder {
    /// Seven bits a byte, the lowest first; the highest bit says that more follow.
    pub fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    /// Numbers near zero are short, whatever their sign.
    pub fn signed(&mut self, number: i64) {
        self.number(((number << 1) ^ (number >> 63)) as u64);
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    pub fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    pub fn digest(&mut self, digest: &Digest) {
        self.0.extend_from_slice(&digest.0);
    }

    /// A number, or nothing.
    pub fn optional(&mut self, number: Option<u64>) {
        self.number(number.is_some().into());
        if let Some(number) = number {
            self.number(number);
        }
    }

    pub fn list<T>(&mut self, items: &[T], mut item: impl FnMut(&mut Self, &T)) {
        self.number(items.len() as u64);
        for each in items {
            item(self, each);
        }
    }

    pub fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// Reads what an [`Encoder`] wrote; `None` stands for bytes that none has written.
pub struct Decoder<'b>(pub &'b [u8]);

impl<'b> Decoder<'b> {
    pub fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    pub fn signed(&mut self) -> Option<i64> {
        let number = self.number()?;
        Some((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    pub fn bytes(&mut self) -> Option<&'b [u8]> {
        let n_bytes = usize::try_from(self.number()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(n_bytes)?;
        self.0 = rest;
        Some(bytes)
    }

    pub fn text(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?.to_vec()).ok()
    }

    pub fn digest(&mut self) -> Option<Digest> {
        let (digest, rest) = self.0.split_first_chunk::<32>()?;
        self.0 = rest;
        Some(Digest(*digest))
    }

    /// A number, or nothing; `None` if there is neither.
    pub fn optional(&mut self) -> Option<Option<u64>> {
        Some(if self.number()? == 0 { None } else { Some(self.number()?) })
    }

    pub fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let n = self.number()?;
        // Not allocated ahead: the number may be anything.
        (0..n).map(|_| item(self)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_what_was_not_is_refused() {
        let numbers = [0, 1, 127, 128, 300, u64::MAX];
        let signed = [0, -1, 1, i64::MIN, i64::MAX];
        let mut encoder = Encoder::default();
        numbers.iter().for_each(|number| encoder.number(*number));
        signed.iter().for_each(|number| encoder.signed(*number));
        encoder.optional(None);
        encoder.optional(Some(7));
        encoder.list(&["a", "bc"], |encoder, text| encoder.text(text));
        let bytes = encoder.finish();
        let mut decoder = Decoder(&bytes);
        assert!(numbers.iter().all(|number| decoder.number() == Some(*number)));
        assert!(signed.iter().all(|number| decoder.signed() == Some(*number)));
        assert_eq!((decoder.optional(), decoder.optional()), (Some(None), Some(Some(7))));
        assert_eq!(decoder.list(Decoder::text), Some(vec!["a".to_owned(), "bc".to_owned()]));
        assert_eq!(decoder.number(), None);
        assert_eq!(Decoder(&[0xff; 20]).number(), None);
        assert_eq!(Decoder(&[9, b'a']).text(), None);
    }
}

//! Rows of the index as bytes. Each begins with a check of its own, so that a flipped bit is noticed
//! wherever the database underneath would hand it out as it is.
//!
//! ```text
//! row     = check (8 bytes) payload
//! check   = the first 8 bytes of BLAKE3(table name, 0, key, payload)
//! action  = digest (32) size (8)
//! range   = size (8) modified (8) changed (8) digest (32) finite (1)
//! ```
//!
//! Numbers are little-endian, but big-endian in keys, so that they sort.

use super::index::{FileRange, RangeContent};
use crate::digest::Digest;
use crate::identity::Identity;

const CHECK: usize = 8;

/// A payload with its check in front.
pub(super) fn seal(table: &str, key: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut row = check(table, key, payload).to_vec();
    row.extend_from_slice(payload);
    row
}

/// A row's payload; `None` if the row is not what was written under this key.
pub(super) fn unseal<'r>(table: &str, key: &[u8], row: &'r [u8]) -> Option<&'r [u8]> {
    let (found, payload) = row.split_at_checked(CHECK)?;
    (found == check(table, key, payload)).then_some(payload)
}

fn check(table: &str, key: &[u8], payload: &[u8]) -> [u8; CHECK] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(table.as_bytes()).update(&[0]).update(key).update(payload);
    hasher.finalize().as_bytes()[..CHECK].try_into().expect("a hash is longer")
}

pub(super) fn action(digest: &Digest, n_bytes: u64) -> Vec<u8> {
    [&digest.0[..], &n_bytes.to_le_bytes()].concat()
}

pub(super) fn read_action(payload: &[u8]) -> Option<(Digest, u64)> {
    let (digest, n_bytes) = payload.split_first_chunk::<32>()?;
    Some((Digest(*digest), u64::from_le_bytes(n_bytes.try_into().ok()?)))
}

/// Ranges are found by where they are; the file's stamps are in the row, so that a new state of the
/// file replaces the old one.
pub(super) fn range_key(range: &FileRange) -> Vec<u8> {
    let Identity { device, inode, .. } = range.identity;
    [device, inode, range.offset, range.n_bytes].iter().flat_map(|number| number.to_be_bytes()).collect()
}

pub(super) fn range(identity: &Identity, content: &RangeContent) -> Vec<u8> {
    let Identity { device: _, inode: _, size, modified, changed } = identity;
    let RangeContent { digest, finite } = content;
    let mut payload = Vec::with_capacity(57);
    payload.extend_from_slice(&size.to_le_bytes());
    payload.extend_from_slice(&modified.to_le_bytes());
    payload.extend_from_slice(&changed.to_le_bytes());
    payload.extend_from_slice(&digest.0);
    payload.push(u8::from(*finite));
    payload
}

/// What a range held, if the row is about the file in this state.
pub(super) fn read_range(payload: &[u8], now: &Identity) -> Option<RangeContent> {
    let (stamps, rest) = payload.split_first_chunk::<24>()?;
    let (digest, finite) = rest.split_first_chunk::<32>()?;
    let expected = [now.size.to_le_bytes(), now.modified.to_le_bytes(), now.changed.to_le_bytes()].concat();
    let finite = match finite {
        [0] => false,
        [1] => true,
        _ => return None,
    };
    (stamps[..] == expected).then_some(RangeContent { digest: Digest(*digest), finite })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_with_any_bit_flipped_is_no_row() {
        let row = seal("t", b"key", b"payload");
        assert_eq!(unseal("t", b"key", &row), Some(&b"payload"[..]));
        for bit in 0..row.len() * 8 {
            let mut flipped = row.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(unseal("t", b"key", &flipped), None);
        }
        assert_eq!(unseal("t", b"kez", &row), None);
        assert_eq!(unseal("u", b"key", &row), None);
        assert_eq!(unseal("t", b"key", &row[..7]), None);
    }
}

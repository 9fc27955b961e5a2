//! Rows of the index as bytes. Each begins with a check of its own, so that a flipped bit is noticed
//! wherever the database underneath would hand it out as it is.
//!
//! ```text
//! row     = check (8 bytes) payload
//! check   = the first 8 bytes of BLAKE3(table name, 0, key, payload)
//! action  = digest (32) size (as many bytes as it takes)
//! range   = size, modified, changed, born (8 each) probe (16) digest (32) mark (1)
//! tag     = build number (8) whatever the caller noted
//! beside  = key (32), as often as something was made beside
//! sums    = checksum of a block (16), as often as there are blocks
//! packed   = pack (16) offset, length (8 each)
//! external =  device, inode, size, offset, length, modified, changed, born (8 each) probe (16) path
//! ```
//!
//! Numbers are little-endian, but big-endian in keys, so that they sort.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::range::{ExternalRange, FileRange, Pack, PackRange, RangeContent};
use crate::digest::{ActionKey, Checksums, Digest};
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

/// There is one for every action that ever ran, so the size is given in no more bytes than it takes.
pub(super) fn action(digest: &Digest, n_bytes: u64) -> Vec<u8> {
    let size = n_bytes.to_le_bytes();
    let n_used = size.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    [&digest.0[..], &size[..n_used]].concat()
}

pub(super) fn read_action(payload: &[u8]) -> Option<(Digest, u64)> {
    let (digest, used) = payload.split_first_chunk::<32>()?;
    let mut size = [0; 8];
    size.get_mut(..used.len())?.copy_from_slice(used);
    Some((Digest(*digest), u64::from_le_bytes(size)))
}

pub(super) fn keys(keys: &[ActionKey]) -> Vec<u8> {
    keys.iter().flat_map(|key| key.0).collect()
}

pub(super) fn read_keys(payload: &[u8]) -> Option<Vec<ActionKey>> {
    let (keys, rest) = payload.as_chunks();
    rest.is_empty().then(|| keys.iter().map(|key| ActionKey(*key)).collect())
}

/// The number of a build, or a time in seconds since the epoch.
pub(super) fn read_number(payload: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(payload.try_into().ok()?))
}

pub(super) fn tag(build: u64, note: &[u8]) -> Vec<u8> {
    [&build.to_le_bytes()[..], note].concat()
}

/// The number of the tagged build, and what the caller noted.
pub(super) fn read_tag(payload: &[u8]) -> Option<(u64, Vec<u8>)> {
    let (build, note) = payload.split_first_chunk::<8>()?;
    Some((u64::from_le_bytes(*build), note.to_vec()))
}

/// Where a piece of a block is.
pub(super) fn block_key(digest: &Digest, piece: u32) -> [u8; 36] {
    let mut key = [0; 36];
    key[..32].copy_from_slice(&digest.0);
    key[32..].copy_from_slice(&piece.to_be_bytes());
    key
}

/// The digest of the block that a piece is of.
pub(super) fn read_block_key(key: &[u8]) -> Option<Digest> {
    Some(Digest(*key.first_chunk::<32>()?))
}

pub(super) fn path_key(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_vec()
}

pub(super) fn read_path_key(key: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(key))
}

/// Ranges are found by where they are; the file's stamps are in the row, so that a new state of the
/// file replaces the old one.
pub(super) fn range_key(range: &FileRange) -> [u8; 32] {
    let Identity { device, inode, .. } = range.identity;
    let numbers = [device, inode, range.offset, range.n_bytes].map(u64::to_be_bytes);
    *numbers.as_flattened().first_chunk().expect("four numbers have 32 bytes")
}

/// The first and the last key that a range of a file may have.
pub(super) fn range_keys_of(file: &Identity) -> ([u8; 32], [u8; 32]) {
    let key = |offset, n_bytes| range_key(&FileRange { identity: *file, offset, n_bytes });
    (key(0, 0), key(u64::MAX, u64::MAX))
}

pub(super) fn range(identity: &Identity, content: &RangeContent) -> Vec<u8> {
    let RangeContent { digest, mark } = content;
    [&state(identity)[..], &digest.0, &[u8::from(*mark)]].concat()
}

/// What tells a file's states apart, beside where it is.
fn state(identity: &Identity) -> Vec<u8> {
    let Identity { device: _, inode: _, size, modified, changed, born, probe } = identity;
    let stamps = [modified, changed, born].map(|stamp| stamp.to_le_bytes());
    [&size.to_le_bytes()[..], stamps.as_flattened(), &probe.to_le_bytes()].concat()
}

/// What a range held, if the row is about the file in this state.
pub(super) fn read_range(payload: &[u8], now: &Identity) -> Option<RangeContent> {
    let (then, rest) = payload.split_first_chunk::<48>()?;
    let (digest, mark) = rest.split_first_chunk::<32>()?;
    let mark = match mark {
        [0] => false,
        [1] => true,
        _ => return None,
    };
    (then[..] == state(now)).then_some(RangeContent { digest: Digest(*digest), mark })
}

/// What a range held, in whatever state the file was.
pub(super) fn read_range_digest(payload: &[u8]) -> Option<Digest> {
    Some(Digest(*payload.get(48..)?.first_chunk::<32>()?))
}

pub(super) fn checksums(Checksums(sums): &Checksums) -> Vec<u8> {
    sums.iter().flat_map(|sum| sum.to_le_bytes()).collect()
}

pub(super) fn read_checksums(payload: &[u8]) -> Option<Checksums> {
    let (sums, rest) = payload.as_chunks::<16>();
    rest.is_empty().then(|| Checksums(sums.iter().map(|sum| u128::from_le_bytes(*sum)).collect()))
}

pub(super) fn file(identity: &Identity) -> Vec<u8> {
    let place = [identity.device, identity.inode].map(u64::to_le_bytes);
    [place.as_flattened(), &state(identity)].concat()
}

pub(super) fn read_file(payload: &[u8]) -> Option<Identity> {
    let (numbers, probe) = payload.split_first_chunk::<48>()?;
    let bytes = |i: usize| numbers[i * 8..(i + 1) * 8].try_into().expect("eight bytes");
    Some(Identity {
        device: u64::from_le_bytes(bytes(0)),
        inode: u64::from_le_bytes(bytes(1)),
        size: u64::from_le_bytes(bytes(2)),
        modified: i64::from_le_bytes(bytes(3)),
        changed: i64::from_le_bytes(bytes(4)),
        born: i64::from_le_bytes(bytes(5)),
        probe: u128::from_le_bytes(probe.try_into().ok()?),
    })
}

pub(super) fn external(external: &ExternalRange) -> Vec<u8> {
    let ExternalRange { path, range: FileRange { identity, offset, n_bytes } } = external;
    let place = [offset, n_bytes].map(|number| number.to_le_bytes());
    [&file(identity)[..], place.as_flattened(), path.as_os_str().as_bytes()].concat()
}

pub(super) fn read_external(payload: &[u8]) -> Option<ExternalRange> {
    let (identity, rest) = payload.split_first_chunk::<64>()?;
    let (offset, rest) = rest.split_first_chunk::<8>()?;
    let (n_bytes, path) = rest.split_first_chunk::<8>()?;
    let identity = read_file(identity)?;
    let (offset, n_bytes) = (u64::from_le_bytes(*offset), u64::from_le_bytes(*n_bytes));
    let path = PathBuf::from(OsStr::from_bytes(path));
    path.is_absolute().then_some(ExternalRange { path, range: FileRange { identity, offset, n_bytes } })
}

pub(super) fn packed(PackRange { pack, offset, n_bytes }: &PackRange) -> Vec<u8> {
    let place = [offset, n_bytes].map(|number| number.to_le_bytes());
    [&pack.0.to_le_bytes()[..], place.as_flattened()].concat()
}

pub(super) fn read_packed(payload: &[u8]) -> Option<PackRange> {
    let (pack, rest) = payload.split_first_chunk::<16>()?;
    let (offset, n_bytes) = rest.split_first_chunk::<8>()?;
    Some(PackRange {
        pack: Pack(u128::from_le_bytes(*pack)),
        offset: u64::from_le_bytes(*offset),
        n_bytes: read_number(n_bytes)?,
    })
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

    #[test]
    fn packed_ranges_come_back() {
        let range = PackRange { pack: Pack(u128::MAX - 1), offset: 2, n_bytes: 3 };
        let row = packed(&range);
        assert_eq!(read_packed(&row), Some(range));
        assert_eq!(read_packed(&row[1..]), None);
    }

    #[test]
    fn external_ranges_come_back() {
        let identity = Identity {
            device: 1,
            inode: 2,
            size: 3,
            modified: -4,
            changed: 5,
            born: 8,
            probe: u128::MAX - 9,
        };
        let range = FileRange { identity, offset: 6, n_bytes: 7 };
        let there = ExternalRange { path: "/models/a b".into(), range };
        let row = external(&there);
        assert_eq!(read_external(&row), Some(there));
        assert_eq!(read_external(b"short"), None);
        assert_eq!(read_external(&row[..row.len() - "/models/a b".len()]), None);
    }
}

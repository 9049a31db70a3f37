//! The two pages of a record's file: pure functions of bytes.
//!
//! Page: magic (8 bytes), page size (u32), payload length (u32), sequence number (u64), SHA-256 over size, length,
//! sequence and payload (32 bytes), payload, zeros up to the page size. Integers are little-endian. The second page
//! starts at the page size, which each page names, so that it is found even when the first one is lost.

use sha2::{Digest, Sha256};
use tokensink_types::Body;
use zeroize::Zeroizing;

const MAGIC: &[u8; 8] = b"tsrec01\n";
const HEADER: usize = 8 + 4 + 4 + 8 + 32;
/// Smallest page.
const SIZE_MIN: usize = 16 * 1024;
/// Largest page that is looked for; tokens are far smaller.
const SIZE_MAX: usize = 16 * 1024 * 1024;
/// A new file has room for this many times the present payload.
const ROOM: usize = 3;

/// The bytes of a record's file, wiped on drop.
#[derive(Debug)]
pub(super) struct Image(Body);

impl Image {
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Self(Body::new(bytes))
    }
}

#[derive(Debug, Clone, Copy)]
struct Page<'a> {
    index: usize,
    sequence: u64,
    payload: &'a [u8],
}

/// What an image says.
#[derive(Debug)]
pub(super) struct Pages<'a> {
    image: &'a [u8],
    size: usize,
    newest: Option<Page<'a>>,
}

impl<'a> Pages<'a> {
    /// Finds the pages of an image; the newest whole one counts.
    pub(super) fn of(image: &'a Image) -> Self {
        let image = image.0.expose();
        let first = page_at(image, 0, None).map(|(size, page)| (size, page, 0));
        let sizes =
            std::iter::successors(Some(SIZE_MIN), |size| Some(size * 2)).take_while(|size| *size <= SIZE_MAX);
        let second = sizes
            .filter_map(|size| page_at(image, size, Some(size)))
            .map(|(size, page)| (size, page, 1))
            // Where the first page is whole, only a second page of the same size belongs to it.
            .find(|(size, ..)| first.as_ref().is_none_or(|(known, ..)| known == size));
        let newest = [first, second]
            .into_iter()
            .flatten()
            .max_by_key(|(_, (sequence, _), _)| *sequence);
        let (size, newest) = match newest {
            Some((size, (sequence, payload), index)) => (
                size,
                Some(Page {
                    index,
                    sequence,
                    payload,
                }),
            ),
            None => (image.len() / 2, None),
        };
        Self { image, size, newest }
    }

    /// The payload of the newest whole page.
    pub(super) fn newest(&self) -> Option<&'a [u8]> {
        self.newest.map(|page| page.payload)
    }

    /// The page size in bytes.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Nothing but zeros: the file is being erased.
    pub(super) fn is_blank(&self) -> bool {
        self.image.len() >= 2 * SIZE_MIN && self.image.iter().all(|byte| *byte == 0)
    }

    /// The file has room for both pages, so that a write in place grows nothing.
    pub(super) fn is_regular(&self) -> bool {
        self.newest.is_some() && self.image.len() == 2 * self.size
    }

    /// The sequence number of the next page.
    pub(super) fn next_sequence(&self) -> u64 {
        self.newest.map_or(1, |page| page.sequence.saturating_add(1))
    }

    /// Offsets and lengths of the two halves of the image, the one with the newest page last.
    pub(super) fn oldest_first(&self) -> [(u64, usize); 2] {
        let size = self.size.min(self.image.len());
        let first = (0, size);
        let second = (u64::try_from(size).unwrap_or(0), self.image.len() - size);
        match self.newest {
            Some(Page { index: 1, .. }) => [first, second],
            Some(_) | None => [second, first],
        }
    }

    /// Offset and bytes of the page that replaces the older one.
    pub(super) fn next_page(&self, payload: &[u8]) -> (u64, Zeroizing<Vec<u8>>) {
        let index = self.newest.map_or(0, |page| 1 - page.index);
        let offset = u64::try_from(index * self.size).unwrap_or(0);
        (offset, page_bytes(self.size, self.next_sequence(), payload))
    }
}

/// Does the payload fit into pages of `size`?
pub(super) fn fits(payload: &[u8], size: usize) -> bool {
    HEADER + payload.len() <= size
}

/// A new file: the record in the first page, the second one blank.
pub(super) fn new_file(sequence: u64, payload: &[u8]) -> Zeroizing<Vec<u8>> {
    let size = (HEADER + payload.len() * ROOM).next_power_of_two().max(SIZE_MIN);
    let mut file = page_bytes(size, sequence, payload);
    file.resize(2 * size, 0);
    file
}

fn page_bytes(size: usize, sequence: u64, payload: &[u8]) -> Zeroizing<Vec<u8>> {
    // Room for both pages of a new file at once: growing would leave a copy of the secrets behind.
    let mut page = Zeroizing::new(Vec::with_capacity(2 * size));
    page.extend_from_slice(MAGIC);
    page.extend_from_slice(&u32::try_from(size).unwrap_or(u32::MAX).to_le_bytes());
    page.extend_from_slice(&u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes());
    page.extend_from_slice(&sequence.to_le_bytes());
    let digest = digest(&page[8..], payload);
    page.extend_from_slice(&digest);
    page.extend_from_slice(payload);
    page.resize(size, 0);
    page
}

/// The whole page at `offset`: its size, sequence number and payload. `None` for anything else.
fn page_at(image: &[u8], offset: usize, size: Option<usize>) -> Option<(usize, (u64, &[u8]))> {
    let page = image.get(offset..)?;
    let (magic, rest) = page.split_first_chunk::<8>()?;
    let (numbers, rest) = rest.split_first_chunk::<16>()?;
    let (checksum, rest) = rest.split_first_chunk::<32>()?;
    let found = usize::try_from(u32::from_le_bytes(*numbers.first_chunk::<4>()?)).ok()?;
    let length = usize::try_from(u32::from_le_bytes(*numbers[4..].first_chunk::<4>()?)).ok()?;
    let sequence = u64::from_le_bytes(*numbers.last_chunk::<8>()?);
    let plausible = found.is_power_of_two()
        && (SIZE_MIN..=SIZE_MAX).contains(&found)
        && size.is_none_or(|size| size == found)
        && length <= found - HEADER;
    if magic != MAGIC || !plausible {
        return None;
    }
    let payload = rest.get(..length)?;
    (digest(numbers, payload) == *checksum).then_some((found, (sequence, payload)))
}

fn digest(numbers: &[u8], payload: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(numbers);
    hash.update(payload);
    hash.finalize().into()
}

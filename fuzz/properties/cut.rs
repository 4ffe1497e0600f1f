//! How what comes over the wire is cut, which must not matter.

/// `bytes` in pieces of these sizes, less one and over and over; at once when there are none. No piece is empty.
pub(crate) fn pieces<'a>(bytes: &'a [u8], sizes: &[u8]) -> Vec<&'a [u8]> {
    let mut sizes = sizes.iter().cycle().map(|size| usize::from(*size) + 1);
    let mut rest = bytes;
    let next = || {
        let size = sizes.next().unwrap_or(rest.len()).min(rest.len());
        let (piece, behind) = rest.split_at(size);
        rest = behind;
        (!piece.is_empty()).then_some(piece)
    };
    std::iter::from_fn(next).collect()
}

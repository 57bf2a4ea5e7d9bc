//! A result of which tasks write columns of their own.

use std::marker::PhantomData;
use std::ops::Range;

/// Rows that several tasks write into, each to elements that are no other's.
pub struct Scattered<'a> {
    first: *mut f32,
    length: usize,
    stride: usize,
    _rows: PhantomData<&'a mut [f32]>,
}

// SAFETY: tasks write to different elements, as they promise to `Scattered::row`.
unsafe impl Sync for Scattered<'_> {}

impl<'a> Scattered<'a> {
    /// Rows that begin so many elements after each other.
    pub fn new(rows: &'a mut [f32], stride: usize) -> Self {
        Scattered { first: rows.as_mut_ptr(), length: rows.len(), stride, _rows: PhantomData }
    }

    /// The room behind the elements of `rows`, as rows that begin so many elements after each other. It has no values yet, so that
    /// nobody may read what nobody wrote.
    pub fn in_room_of(rows: &'a mut Vec<f32>, stride: usize) -> Self {
        let room = rows.spare_capacity_mut();
        Scattered { first: room.as_mut_ptr().cast(), length: room.len(), stride, _rows: PhantomData }
    }

    /// Writes columns of a row.
    ///
    /// # Safety
    /// Nobody else reads or writes them.
    pub unsafe fn write(&self, row: usize, first: usize, values: &[f32]) {
        let start = row * self.stride + first;
        assert!(first + values.len() <= self.stride && start + values.len() <= self.length);
        // SAFETY: they are inside of the rows, and what the caller promises.
        unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), self.first.add(start), values.len()) }
    }

    /// Columns of a row.
    ///
    /// # Safety
    /// Nobody else reads or writes them.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn row(&self, row: usize, columns: Range<usize>) -> &mut [f32] {
        let first = row * self.stride + columns.start;
        assert!(columns.start <= columns.end && columns.end <= self.stride && first + columns.len() <= self.length);
        // SAFETY: they are inside of the rows, and what the caller promises.
        unsafe { std::slice::from_raw_parts_mut(self.first.add(first), columns.len()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_of_rows_are_where_they_belong() {
        let mut values = vec![0.0; 6];
        let rows = Scattered::new(&mut values, 3);
        // SAFETY: one at a time.
        unsafe { rows.row(1, 1..3) }.copy_from_slice(&[1.0, 2.0]);
        assert_eq!(values, [0.0, 0.0, 0.0, 0.0, 1.0, 2.0]);
    }

    #[test]
    #[should_panic(expected = "assertion")]
    fn nothing_is_written_outside() {
        let mut values = vec![0.0; 6];
        // SAFETY: it is not reached.
        unsafe { Scattered::new(&mut values, 3).row(1, 2..4) };
    }
}

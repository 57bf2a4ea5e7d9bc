//! First-fit decreasing: rows into bins, in `O(n log n)`.

/// Which bin each row goes to, in order of `lengths`, and how many bins there are. `order` lists the rows longest
/// first; none may be longer than `capacity`.
///
/// # Source
/// Johnson, "Near-optimal bin packing algorithms" (1973): at most 11/9 of the fewest possible bins, plus a constant. A
/// tournament tree over the bins' free room finds the first bin with enough of it.
pub(super) fn first_fit_decreasing(lengths: &[u32], order: &[u32], capacity: u32) -> (Vec<u32>, u32) {
    let mut bin_of = vec![0; lengths.len()];
    let mut bins = 0;
    // Leaves are bins, in order of opening; an inner node holds the most free room below it. Bins that are not open yet
    // are empty, so a search always ends, at the latest at the next one to be opened.
    let leaves = order.len().next_power_of_two();
    let mut free = vec![capacity; 2 * leaves];
    for &row in order {
        let length = lengths[row as usize];
        debug_assert!(length <= capacity);
        let mut node = 1;
        while node < leaves {
            node *= 2;
            if free[node] < length {
                node += 1;
            }
        }
        let bin = (node - leaves) as u32;
        bin_of[row as usize] = bin;
        bins = bins.max(bin + 1);
        free[node] = free[node].saturating_sub(length);
        while node > 1 {
            node /= 2;
            free[node] = free[2 * node].max(free[2 * node + 1]);
        }
    }
    (bin_of, bins)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pack(lengths: &[u32], capacity: u32) -> (Vec<u32>, u32) {
        let mut order: Vec<u32> = (0..lengths.len() as u32).collect();
        order.sort_by_key(|&row| std::cmp::Reverse(lengths[row as usize]));
        first_fit_decreasing(lengths, &order, capacity)
    }

    /// The definition, in `O(n * bins)`.
    fn plainly(lengths: &[u32], capacity: u32) -> (Vec<u32>, u32) {
        let mut order: Vec<usize> = (0..lengths.len()).collect();
        order.sort_by_key(|&row| std::cmp::Reverse(lengths[row]));
        let mut free = Vec::new();
        let mut bin_of = vec![0; lengths.len()];
        for row in order {
            let bin = free.iter().position(|&room| room >= lengths[row]).unwrap_or_else(|| {
                free.push(capacity);
                free.len() - 1
            });
            free[bin] -= lengths[row];
            bin_of[row] = bin as u32;
        }
        (bin_of, free.len() as u32)
    }

    #[test]
    fn the_first_bin_with_room_takes_the_row() {
        assert_eq!(pack(&[4, 7, 3, 6, 2], 10), (vec![1, 0, 0, 1, 2], 3));
        assert_eq!(pack(&[], 10), (vec![], 0));
        assert_eq!(pack(&[10], 10), (vec![0], 1));
    }

    proptest! {
        #[test]
        fn the_tree_does_what_the_definition_says(lengths in prop::collection::vec(0_u32..=50, 0..200)) {
            prop_assert_eq!(pack(&lengths, 50), plainly(&lengths, 50));
        }
    }
}

//! Where a kernel lies on a grid.

/// How a kernel goes over one side of a grid, with as many cells of zeros around it as make the output as long as the
/// steps ('same' padding; where an odd number is needed, one more after than before).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Steps {
    /// Cells of the input.
    pub cells: usize,
    /// Cells of the kernel.
    pub kernel: usize,
    /// Cells from one step to the next.
    pub stride: usize,
}

impl Steps {
    /// Cells of the output.
    pub fn len(&self) -> usize {
        self.cells.div_ceil(self.stride)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.cells == 0
    }

    /// Cells of zeros before the input and after it.
    pub fn padding(&self) -> [usize; 2] {
        let reach = self.len().saturating_sub(1) * self.stride + self.kernel;
        let zeros = reach.saturating_sub(self.cells);
        [zeros / 2, zeros - zeros / 2]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_is_that_of_the_reference() {
        // timm.layers.padding.get_same_padding, split as timm.layers.padding.pad_same splits it.
        for ((cells, kernel, stride), expected) in [
            ((768, 3, 2), [0, 1]),
            ((7, 3, 2), [1, 1]),
            ((48, 3, 2), [0, 1]),
            ((9, 5, 1), [2, 2]),
            ((8, 5, 2), [1, 2]),
            ((1, 5, 2), [2, 2]),
            ((8, 2, 1), [0, 1]),
            ((8, 1, 2), [0, 0]),
        ] {
            let steps = Steps { cells, kernel, stride };
            assert_eq!(steps.padding(), expected, "{steps:?}");
        }
    }
}

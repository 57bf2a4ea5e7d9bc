//! What multiplies one tile, and which of its forms this processor runs.

use super::tile::{Pair, Tile, widened};
use std::hint::black_box;
use std::sync::OnceLock;

/// Runs a generic function by a kernel.
macro_rules! by {
    ($kernel:expr, $function:ident($($arg:expr),*)) => {
        match $kernel {
            $crate::ops::cpu::bf16::kernel::Kernel::Avx512 => $function::<$crate::ops::cpu::bf16::avx512::Avx512>($($arg),*),
            $crate::ops::cpu::bf16::kernel::Kernel::Avx2 => $function::<$crate::ops::cpu::bf16::avx2::Avx2>($($arg),*),
            $crate::ops::cpu::bf16::kernel::Kernel::Plain => $function::<$crate::ops::cpu::bf16::plain::Plain>($($arg),*),
        }
    };
}
pub(super) use by;

/// The forms of the product of two tiles. All of them give the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernel {
    /// `VDPBF16PS`: two products and two sums of sixteen numbers at once.
    Avx512,
    /// The same sums by fused multiply-adds in f32, eight at once.
    Avx2,
    /// The same by what the compiler makes of a plain loop.
    Plain,
}

impl Kernel {
    /// All of them, the fastest first.
    pub const ALL: [Kernel; 3] = [Kernel::Avx512, Kernel::Avx2, Kernel::Plain];

    /// The fastest that this processor runs.
    pub fn best() -> Self {
        static BEST: OnceLock<Kernel> = OnceLock::new();
        let usable = |kernel: &Kernel| kernel.runs_here() && kernel.error() < TOLERANCE;
        *BEST.get_or_init(|| Kernel::ALL.into_iter().find(usable).unwrap_or(Kernel::Plain))
    }

    /// Whether this processor has its instructions.
    pub fn runs_here(self) -> bool {
        by!(self, runs_here())
    }

    /// Whether it multiplies bf16 numbers without making f32 of them first, which is what makes it fast.
    pub fn is_native(self) -> bool {
        self == Kernel::Avx512
    }

    /// Multiplications and additions of a product of two tiles in [`Kernel::repeat`].
    pub fn operations(self) -> usize {
        by!(self, operations())
    }

    /// Multiplies two tiles, which lie in the nearest cache, so many times: what it could reach at most.
    pub fn repeat(self, times: usize) {
        by!(self, repeat(times))
    }

    /// What is computed with, for reports.
    pub fn name(self) -> &'static str {
        match self {
            Kernel::Avx512 if self.error() == 0.0 => "AVX-512 BF16",
            Kernel::Avx512 => "AVX-512 BF16, in an order of its own",
            Kernel::Avx2 => "made of f32 products with AVX2",
            Kernel::Plain => "made of f32 products",
        }
    }

    /// How far it is from what [`Tile`] promises: 0 where the bits are the same, as they are on every processor whose
    /// instruction does what its manual says.
    pub fn error(self) -> f32 {
        by!(self, error())
    }
}

fn runs_here<T: Tile>() -> bool {
    T::runs_here()
}

/// Pairs of the tiles that are multiplied again and again.
const REPEATED: usize = 128;

const fn operations<T: Tile>() -> usize {
    4 * REPEATED * T::ROWS * T::COLUMNS
}

fn repeat<T: Tile>(times: usize) {
    // Ones: in bf16, and as f32 where a form widens its rows first.
    let rows = vec![if T::WORDS == 1 { 0x3f80_3f80 } else { 1f32.to_bits() }; REPEATED * T::ROWS * T::WORDS];
    let columns: Vec<Pair> = vec![0x3f80_3f80; REPEATED * T::COLUMNS];
    let mut sums = vec![0.0; T::ROWS * T::COLUMNS];
    (0..times).for_each(|_| T::multiply(REPEATED, black_box(&rows), black_box(&columns), black_box(&mut sums)));
}

/// A form that is farther from the promise is not used: far above rounding in f32, far below a wrong sum.
const TOLERANCE: f32 = 1e-4;

/// The largest difference of a form of the product from what [`Tile`] promises, relative to the largest sum, on pairs of
/// which other orders of their sums give other bits.
fn error<T: Tile>() -> f32 {
    const PAIRS: usize = 16;
    let mut state = 1u32;
    // A sign, an exponent from -8 to 7, and 7 bits.
    let mut number = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let exponent = 127 - 8 + (state >> 28);
        (state >> 12 & 0x8000) | exponent << 7 | (state >> 20 & 0x7f)
    };
    let mut pairs = |len: usize| (0..len).map(|_| number() | number() << 16).collect::<Vec<Pair>>();
    let (rows, columns) = (pairs(PAIRS * T::ROWS), pairs(PAIRS * T::COLUMNS));
    let packed: Vec<u32> = match T::WORDS {
        1 => rows.clone(),
        _ => rows.iter().flat_map(|pair| widened(*pair)).map(f32::to_bits).collect(),
    };
    let mut sums = vec![f32::NAN; T::ROWS * T::COLUMNS];
    T::multiply(PAIRS, &packed, &columns, &mut sums);
    let sum = |row: usize, column: usize| {
        (0..PAIRS).fold(0f32, |sum, at| {
            let (x, w) = (widened(rows[at * T::ROWS + row]), widened(columns[at * T::COLUMNS + column]));
            x[0].mul_add(w[0], x[1].mul_add(w[1], sum))
        })
    };
    let pairs = sums.iter().enumerate().map(|(at, got)| (*got, sum(at / T::COLUMNS, at % T::COLUMNS)));
    let (error, size) = pairs.fold((0f32, 0f32), |(error, size), (got, want)| {
        let difference = if got.to_bits() == want.to_bits() { 0.0 } else { (got - want).abs().max(f32::MIN_POSITIVE) };
        (error.max(difference), size.max(want.abs()))
    });
    error / size
}

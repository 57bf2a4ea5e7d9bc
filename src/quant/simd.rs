//! Running plain loops with the widest instructions that this processor has, and sums that become vectors.

use half::bf16;

/// Runs `work`, compiled a second time for AVX2 and taken in that form where the processor has it.
///
/// Only what is inlined takes part: write the closure as `widest(#[inline(always)] || ..)` (without the attribute a
/// long one stays a function of its own, compiled for none of them), and mark the functions it calls the same way.
/// Loops by iterators have no bounds checks, which would keep them scalar.
///
/// # Numerics
/// Vector instructions round like scalar ones and only what is written as fused is, so results are the same bits
/// everywhere.
#[inline(always)]
pub(crate) fn widest<R>(work: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(work)
}

/// Defines functions that are compiled twice: for AVX2 with fused multiply-add, chosen where the machine has it, and
/// for the instruction set the program is built for. The compiler turns their loops, and what they inline, into vector
/// instructions.
///
/// A function and not a closure, since a closure that is not inlined silently falls back to scalar code.
macro_rules! vectorised {
    ($($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $out:ty)? $body:block)*) => {$(
        $(#[$meta])*
        $vis fn $name($($arg: $ty),*) $(-> $out)? {
            #[inline(always)]
            fn plain($($arg: $ty),*) $(-> $out)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                fn wide($($arg: $ty),*) $(-> $out)? {
                    plain($($arg),*)
                }
                if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
                    // SAFETY: the machine has the two instruction sets that the function is compiled for.
                    return unsafe { wide($($arg),*) };
                }
            }
            plain($($arg),*)
        }
    )*};
}
pub(crate) use vectorised;

/// Partial results that a sum keeps side by side, so that it runs in vectors and none of them waits for the last.
pub(crate) const LANES: usize = 32;

/// `sum_i f(a_i, b_i)`, in a fixed order.
#[inline(always)]
pub(crate) fn sum2<A: Copy, B: Copy>(a: &[A], b: &[B], f: impl Fn(A, B) -> f32) -> f32 {
    let mut lanes = [0f32; LANES];
    let (a_whole, a_rest) = a.as_chunks::<LANES>();
    let (b_whole, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a_whole.iter().zip(b_whole) {
        for i in 0..LANES {
            lanes[i] += f(a[i], b[i]);
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(&a, &b)| f(a, b)).sum();
    add_up(&lanes) + rest
}

/// The sum of all lanes, by halves. Inlined, it makes the compiler cut the loop before it into vectors of two.
#[inline(never)]
pub(crate) fn add_up(lanes: &[f32; LANES]) -> f32 {
    let mut lanes = *lanes;
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}

vectorised! {
    /// `sum_i a_i b_i`, in a fixed order.
    pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
        sum2(a, b, |a, b| a * b)
    }

    /// As [`dot`], of bf16 numbers.
    pub(crate) fn dot_bf16(a: &[bf16], b: &[f32]) -> f32 {
        sum2(a, b, |a, b| f32::from_bits(u32::from(a.to_bits()) << 16) * b)
    }

    /// As [`dot`], of signed bytes.
    pub(crate) fn dot_i8(a: &[i8], b: &[f32]) -> f32 {
        sum2(a, b, |a, b| f32::from(a) * b)
    }
}

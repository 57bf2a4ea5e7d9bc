//! The instructions themselves.

use std::arch::x86_64::_mm512_storeu_ps;
use std::arch::x86_64::{
    __m512bh, __m512i, _mm512_dpbf16_ps, _mm512_loadu_si512, _mm512_set1_epi32, _mm512_setzero_ps,
};
use std::mem::transmute;

const ROWS: usize = 12;
/// Columns of a register.
const LANES: usize = 16;
const COLUMNS: usize = 2 * LANES;

/// `sums = rows columns`.
///
/// # Safety
/// The processor has AVX-512 BF16; `sums` are `[12, 32]`, and `rows` `[pairs, 12]` of as many pairs as `columns`
/// `[pairs, 32]`.
#[target_feature(enable = "avx512f,avx512bf16")]
pub unsafe fn multiply(rows: &[u32], columns: &[u32], sums: &mut [f32]) {
    let mut registers = [[_mm512_setzero_ps(); 2]; ROWS];
    for (rows, columns) in rows.as_chunks::<ROWS>().0.iter().zip(columns.as_chunks::<COLUMNS>().0) {
        // SAFETY: both halves lie in the chunk, and loads need no alignment.
        let columns: [__m512i; 2] = unsafe {
            [_mm512_loadu_si512(columns.as_ptr().cast()), _mm512_loadu_si512(columns.as_ptr().add(LANES).cast())]
        };
        for row in 0..ROWS {
            let pair = _mm512_set1_epi32(rows[row].cast_signed());
            for half in 0..2 {
                // SAFETY: a register of pairs is one of 32 bf16 numbers.
                let (x, w): (__m512bh, __m512bh) =
                    unsafe { (transmute::<__m512i, __m512bh>(pair), transmute::<__m512i, __m512bh>(columns[half])) };
                registers[row][half] = _mm512_dpbf16_ps(registers[row][half], w, x);
            }
        }
    }
    for (sums, registers) in sums.as_chunks_mut::<COLUMNS>().0.iter_mut().zip(&registers) {
        // SAFETY: both halves lie in the chunk, and stores need no alignment.
        unsafe {
            _mm512_storeu_ps(sums.as_mut_ptr(), registers[0]);
            _mm512_storeu_ps(sums.as_mut_ptr().add(LANES), registers[1]);
        }
    }
}

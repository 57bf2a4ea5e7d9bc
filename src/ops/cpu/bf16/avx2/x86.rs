//! The instructions themselves.

use std::arch::x86_64::{__m256, __m256i, _mm256_and_si256, _mm256_broadcast_ss, _mm256_castsi256_ps, _mm256_fmadd_ps};
use std::arch::x86_64::{
    _mm256_loadu_si256, _mm256_set1_epi32, _mm256_setzero_ps, _mm256_slli_epi32, _mm256_storeu_ps,
};

const ROWS: usize = 6;
/// Columns of a register.
const LANES: usize = 8;
const COLUMNS: usize = 2 * LANES;

/// `sums = rows columns`.
///
/// # Safety
/// The processor has AVX2 and FMA; `sums` are `[6, 16]`, and `rows` `[pairs, 6, 2]` of as many pairs as `columns`
/// `[pairs, 16]`.
#[target_feature(enable = "avx2,fma")]
pub unsafe fn multiply(rows: &[u32], columns: &[u32], sums: &mut [f32]) {
    let high = _mm256_set1_epi32(0xffff_0000_u32.cast_signed());
    let mut registers = [[_mm256_setzero_ps(); 2]; ROWS];
    for (rows, columns) in rows.as_chunks::<{ 2 * ROWS }>().0.iter().zip(columns.as_chunks::<COLUMNS>().0) {
        // SAFETY: both halves lie in the chunk, and loads need no alignment.
        let columns: [__m256i; 2] = unsafe {
            [_mm256_loadu_si256(columns.as_ptr().cast()), _mm256_loadu_si256(columns.as_ptr().add(LANES).cast())]
        };
        let second = columns.map(|pairs| _mm256_castsi256_ps(_mm256_and_si256(pairs, high)));
        add(&mut registers, rows, 1, second);
        let first = columns.map(|pairs| _mm256_castsi256_ps(_mm256_slli_epi32::<16>(pairs)));
        add(&mut registers, rows, 0, first);
    }
    for (sums, registers) in sums.as_chunks_mut::<COLUMNS>().0.iter_mut().zip(&registers) {
        // SAFETY: both halves lie in the chunk, and stores need no alignment.
        unsafe {
            _mm256_storeu_ps(sums.as_mut_ptr(), registers[0]);
            _mm256_storeu_ps(sums.as_mut_ptr().add(LANES), registers[1]);
        }
    }
}

/// Adds the products of one number of each pair.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn add(registers: &mut [[__m256; 2]; ROWS], rows: &[u32; 2 * ROWS], of_pair: usize, columns: [__m256; 2]) {
    for (row, registers) in registers.iter_mut().enumerate() {
        let number = f32::from_bits(rows[2 * row + of_pair]);
        let number = _mm256_broadcast_ss(&number);
        registers[0] = _mm256_fmadd_ps(number, columns[0], registers[0]);
        registers[1] = _mm256_fmadd_ps(number, columns[1], registers[1]);
    }
}

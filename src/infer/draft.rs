//! Guesses at what is said next.

/// The longest run of words that is looked for, and the shortest.
const LONGEST: usize = 3;
const SHORTEST: usize = 2;

/// At most `most` tokens that followed the last ones where they were said before: the longest run of them, at its last
/// place. Text that quotes, lists or mends what it was given repeats itself a lot.
///
/// # Source
/// Saxena 2023 (prompt lookup decoding).
pub fn guess(prompt: &[u32], said: &[u32], most: usize) -> Vec<u32> {
    let tokens = prompt.len() + said.len();
    let token = |at: usize| if at < prompt.len() { prompt[at] } else { said[at - prompt.len()] };
    for run in (SHORTEST..=LONGEST).rev() {
        if most == 0 || tokens <= run {
            continue;
        }
        let is_same = |end: &usize| (1..=run).all(|back| token(end - back) == token(tokens - back));
        if let Some(end) = (run..tokens).rev().find(is_same) {
            return (end..tokens.min(end + most)).map(token).collect();
        }
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_followed_before_is_guessed() {
        assert_eq!(guess(&[1, 2, 3, 4, 5], &[2, 3], 2), [4, 5]);
        assert_eq!(guess(&[1, 2, 3, 4, 5], &[2, 3], 9), [4, 5, 2, 3]);
        assert_eq!(guess(&[1, 2, 3, 4, 9, 2, 3, 5], &[1, 2, 3], 1), [4], "the longer run");
        assert_eq!(guess(&[2, 3, 4, 2, 3, 5], &[2, 3], 1), [5], "the later place");
        assert_eq!(guess(&[7, 7], &[7], 3), [7], "itself");
        for nothing in
            [guess(&[1, 2, 3], &[4], 2), guess(&[1, 2, 1], &[], 3), guess(&[], &[], 3), guess(&[1, 1, 1], &[], 0)]
        {
            assert_eq!(nothing, [0_u32; 0]);
        }
    }
}

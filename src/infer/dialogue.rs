//! Answering in turns: what was read in earlier turns is not read again.

use crate::infer::engine::{CacheDtype, Engine, EngineOptions, Memory};
use crate::infer::generate::GenerationSettings;
use crate::infer::request::{Event, Generated, Prompt};
use crate::model::{Inputs, LanguageModel};
use crate::nn::SidePath;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

/// One speaker, a model with what runs beside it, and what it remembers of the conversation so far.
pub struct Dialogue<'a> {
    side: &'a dyn SidePath,
    engine: Engine<'a>,
}

impl<'a> Dialogue<'a> {
    /// A speaker that remembers nothing yet, and holds what it will in this dtype.
    pub fn new(model: &'a dyn LanguageModel, side: &'a dyn SidePath, cache_dtype: CacheDtype) -> Self {
        let options = EngineOptions { memory: Memory::Conversation, cache_dtype, ..EngineOptions::default() };
        Dialogue { side, engine: Engine::new(model, options) }
    }

    /// Answers `prompt`, the whole conversation so far, of text. Where it begins with all that is remembered, only the rest is
    /// read. Else everything is read anew: sliding layers keep only their window, so the memory cannot be cut back.
    pub fn answer(
        &mut self,
        prompt: &[u32],
        settings: &GenerationSettings,
        on_token: impl FnMut(u32) -> ControlFlow<()>,
    ) -> Generated {
        self.answer_unless(&AtomicBool::new(false), &Inputs::of(prompt.to_vec()), &[], settings, on_token)
    }

    /// [`Dialogue::answer`], ended once `stop` is set: with what has been said until then. The soft tokens of `prompt` show
    /// `contents`, by a hash of each.
    pub fn answer_unless(
        &mut self,
        stop: &AtomicBool,
        prompt: &Inputs,
        contents: &[[u8; 32]],
        settings: &GenerationSettings,
        mut on_token: impl FnMut(u32) -> ControlFlow<()>,
    ) -> Generated {
        let mut answer = Generated::nothing();
        let prompt = Prompt { inputs: prompt.clone(), contents: contents.to_vec() };
        let Ok(request) = self.engine.submit(settings.request(prompt, 0)) else {
            self.engine.forget(None);
            return answer;
        };
        while !self.engine.is_idle() {
            if stop.load(Ordering::Relaxed) {
                self.engine.cancel(request);
            }
            for event in self.engine.step(&[self.side]) {
                match event {
                    Event::Token(_, token) => {
                        answer.tokens.push(token);
                        if on_token(token).is_break() {
                            self.engine.cancel(request);
                            return answer;
                        }
                    }
                    Event::Done(_, reason) => answer.finish_reason = reason,
                }
            }
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::infer::testing::{Count, model};
    use crate::infer::{FinishReason, Sampling, generate};
    use crate::nn::BaseOnly;

    fn settings(max_new_tokens: usize, stop: &[u32]) -> GenerationSettings {
        GenerationSettings {
            max_new_tokens,
            sampling: Sampling::GREEDY,
            stop: stop.to_vec(),
            seed: 1,
            first_prompt: 0,
            drafts: 0,
            cache_dtype: CacheDtype::F32,
        }
    }

    fn go_on(_: u32) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    #[test]
    fn a_turn_reads_only_what_is_new_and_says_the_same() {
        let model = model();
        let read = Count::default();
        let mut dialogue = Dialogue::new(&*model, &read, CacheDtype::F32);
        let mut turn =
            |prompt: &[u32], settings: &GenerationSettings| {
                let answer = dialogue.answer(prompt, settings, go_on);
                let scratch = generate(&*model, &BaseOnly, &[Inputs::of(prompt.to_vec())], settings, |_, _| {
                    ControlFlow::Continue(())
                });
                assert_eq!(answer, scratch[0]);
                (answer.tokens, read.take())
            };

        let first: Vec<u32> = (2..14).collect();
        let (said, tokens) = turn(&first, &settings(6, &[]));
        assert_eq!((said.len(), tokens), (6, 12 + 5), "the last token is said, not read");
        let second = [first.as_slice(), &said, &[30, 31, 32]].concat();
        let (said, tokens) = turn(&second, &settings(6, &[]));
        assert_eq!(
            (said.len(), tokens),
            (6, 1 + 3 + 5),
            "the last token of the first answer, the question, the answer"
        );
    }

    #[test]
    fn an_answer_that_ends_by_itself_is_remembered_whole() {
        let model = model();
        let read = Count::default();
        let prompt = [2, 30, 31];
        let sampled = |stop| GenerationSettings {
            sampling: Sampling { temperature: 3.0, top_k: 0, top_p: 1.0 },
            ..settings(4, stop)
        };
        let free = Dialogue::new(&*model, &BaseOnly, CacheDtype::F32).answer(&prompt, &sampled(&[]), go_on).tokens;
        assert!(!free[..2].contains(&free[2]), "{free:?}");
        let mut dialogue = Dialogue::new(&*model, &read, CacheDtype::F32);
        let answer = dialogue.answer(&prompt, &sampled(&[free[2]]), go_on);
        assert_eq!((answer.tokens.as_slice(), answer.finish_reason), (&free[..2], FinishReason::Stop));
        assert_eq!(read.take(), 3 + 2);
        dialogue.answer(&[&prompt, &free[..2], &[106, 9]].concat(), &settings(1, &[]), go_on);
        assert_eq!(read.tokens(), 2);
    }

    #[test]
    fn another_past_is_read_from_its_beginning() {
        let model = model();
        let read = Count::default();
        let mut dialogue = Dialogue::new(&*model, &read, CacheDtype::F32);
        let one = settings(1, &[]);
        let prompt: Vec<u32> = (2..22).collect();
        dialogue.answer(&prompt, &one, go_on);
        let mut edited = prompt.clone();
        edited[3] = 99;
        edited.push(7);
        for prompt in [&prompt[..], &edited, &edited[..5]] {
            read.take();
            let answer = dialogue.answer(prompt, &one, go_on);
            assert_eq!(read.tokens(), prompt.len());
            let scratch =
                generate(&*model, &BaseOnly, &[Inputs::of(prompt.to_vec())], &one, |_, _| ControlFlow::Continue(()));
            assert_eq!(answer, scratch[0]);
        }
        // Nothing asked, nothing said; the next turn starts from nothing.
        assert_eq!(dialogue.answer(&[], &one, go_on).tokens, [0_u32; 0]);
        read.take();
        dialogue.answer(&prompt, &one, go_on);
        assert_eq!(read.tokens(), prompt.len());
    }

    #[test]
    fn a_question_that_is_stopped_is_remembered_as_far_as_it_was_read() {
        let model = model();
        let read = Count::default();
        let mut dialogue = Dialogue::new(&*model, &read, CacheDtype::F32);
        let prompt: Vec<u32> = (0..600).map(|i| 2 + i % 300).collect();
        let stopped =
            dialogue.answer_unless(&AtomicBool::new(true), &Inputs::of(prompt.clone()), &[], &settings(4, &[]), go_on);
        assert_eq!((stopped.tokens.len(), read.take()), (0, 0));
        let answer = dialogue.answer(&prompt, &settings(1, &[]), go_on);
        let scratch =
            generate(&*model, &BaseOnly, &[Inputs::of(prompt)], &settings(1, &[]), |_, _| ControlFlow::Continue(()));
        assert_eq!(answer, scratch[0]);
    }

    #[test]
    fn an_interrupted_answer_is_remembered_as_far_as_it_was_read() {
        let model = model();
        let read = Count::default();
        let mut dialogue = Dialogue::new(&*model, &read, CacheDtype::F32);
        let mut left = 3;
        let answer = dialogue.answer(&[2, 5, 8], &settings(9, &[]), |_| {
            left -= 1;
            if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert_eq!((answer.tokens.len(), read.take()), (3, 5), "the last one has not been read");
        let next = [&[2, 5, 8], answer.tokens.as_slice(), &[9]].concat();
        dialogue.answer(&next, &settings(1, &[]), go_on);
        assert_eq!(read.tokens(), 2);
    }
}

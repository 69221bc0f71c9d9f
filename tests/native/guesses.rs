//! Guesses of the next tokens, by what stood before or by a smaller model.

use pollster::block_on;
use siskin_engine::{DeviceRequest, OpenOptions, Session};
use siskin_tests::copy_of;

use crate::sequences::{CONTEXT, alone, ids, open, open_guessing, prompts, requests, run};

/// With the model itself as the draft, all guesses are right, drawn ones too.
#[test]
fn a_smaller_model_guesses_and_changes_no_answer() {
    for (draft, model) in [("llama", "llama"), ("qwen3", "llama")] {
        // What is guessed wrongly is so on any device.
        let n_devices = if draft == model { usize::MAX } else { 2 };
        for device in requests().into_iter().take(n_devices) {
            let wanted = alone(&mut open(model, device, 1, CONTEXT));
            let what = format!("{model} {device:?}");
            let mut session = open_guessing(model, device, [3, 3 * CONTEXT, 4]);
            session
                .set_draft(open(draft, DeviceRequest::Cpu, 3, 3 * CONTEXT))
                .unwrap();
            for (prompt, options) in prompts() {
                session.submit(&prompt, options).unwrap();
            }
            let answers = run(&mut session, |_, _| ());
            let right: usize = answers.values().map(|a| a.right_guesses).sum();
            let guessed: usize = answers.values().map(|a| a.guessed_tokens).sum();
            assert!(guessed > 0, "{what}");
            assert!(
                draft != model || right + 2 >= guessed,
                "{what}: {right} of {guessed}"
            );
            assert_eq!(ids(answers), wanted, "{what}");
            session.reset();
            assert_eq!(session.cache_free(), 1.0);
        }
    }
}

#[test]
fn a_draft_of_another_vocabulary_is_refused() {
    let mut session = open("llama", DeviceRequest::Cpu, 2, CONTEXT);
    let refused = |session: &mut Session, draft| session.set_draft(draft).unwrap_err().to_string();
    let folder = copy_of("tiny/llama");
    let file = folder.path().join("tokenizer.json");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("<|endoftext|>", "<|other|>")).unwrap();
    let options = OpenOptions {
        sequences: 2,
        ..OpenOptions::on(DeviceRequest::Cpu)
    };
    let other = block_on(Session::open(folder.path(), &options, &mut |_| ())).unwrap();
    let what = refused(&mut session, other);
    assert!(
        what.contains("its token 0 is `<|other|>` instead of `<|endoftext|>`"),
        "{what}"
    );
    let few = open("llama", DeviceRequest::Cpu, 1, CONTEXT);
    let what = refused(&mut session, few);
    assert!(what.contains("it runs 1 sequences"), "{what}");
}

/// Greedy answers of this small model soon repeat themselves, so that guesses are often right; drawn ones do not.
#[test]
fn guesses_save_steps_and_change_no_answer() {
    let model = "gemma3";
    for device in requests() {
        let wanted = alone(&mut open(model, device, 1, CONTEXT));
        let what = format!("{model} {device:?}");
        let mut one = open_guessing(model, device, [1, CONTEXT, 6]);
        assert_eq!(alone(&mut one), wanted, "{what}");
        // So little that requests must make room for one another.
        let mut session = open_guessing(model, device, [3, 96, 6]);
        for (prompt, options) in prompts() {
            session.submit(&prompt, options).unwrap();
        }
        let answers = run(&mut session, |_, _| ());
        let right: usize = answers.values().map(|a| a.right_guesses).sum();
        let guessed: usize = answers.values().map(|a| a.guessed_tokens).sum();
        assert!(
            0 < right && right <= guessed,
            "{what}: {right} of {guessed}"
        );
        assert!(guessed < 3 * right + 40, "{what}: {right} of {guessed}");
        assert_eq!(ids(answers), wanted, "{what}");
        session.reset();
        assert_eq!(session.cache_free(), 1.0);
    }
}

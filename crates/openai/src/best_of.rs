//! `best_of`: of the answers to a prompt, those whose tokens are likeliest in the mean.

use siskin_engine::Answer;

fn mean_logprob(answer: &Answer) -> f32 {
    let sum: f32 = answer.logprobs.iter().map(|l| l.logprob).sum();
    sum / answer.logprobs.len().max(1) as f32
}

/// The `n` best of each `best_of` answers, the best first.
pub fn best(answers: &[Answer], best_of: usize, n: usize) -> Vec<Answer> {
    let best = |answers: &[Answer]| {
        let mut answers = answers.to_vec();
        answers.sort_by(|a, b| mean_logprob(b).total_cmp(&mean_logprob(a)));
        answers.truncate(n);
        answers
    };
    answers.chunks(best_of).flat_map(best).collect()
}

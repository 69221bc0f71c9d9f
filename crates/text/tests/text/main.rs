mod gguf;
mod limits;
mod mutants;
mod template_mutants;

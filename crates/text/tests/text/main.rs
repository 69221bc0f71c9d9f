mod calls;
mod gguf;
mod gguf_kinds;
mod limits;
mod mutants;
mod template_mutants;

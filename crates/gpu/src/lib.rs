use siskin_formats::TensorType;
use siskin_graph::*;
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    Base,
    Cpu,
    Sg,
    SgDot4,
}
impl std::fmt::Display for Profile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "x")
    }
}
#[derive(Debug, thiserror::Error)]
#[error("no adapter")]
pub struct Error;
type Result<T> = std::result::Result<T, Error>;
#[derive(Debug)]
pub enum GpuDevice {}
pub struct Up;
impl Up {
    pub fn part(&mut self, _: &[u8]) -> Result<()> {
        Err(Error)
    }
    pub fn finish(self) {}
}
impl GpuDevice {
    pub async fn open(_: Option<usize>, _: Option<Profile>) -> Result<Self> {
        Err(Error)
    }
    pub fn is_software(&self) -> bool {
        match *self {}
    }
    pub fn name(&self) -> &str {
        match *self {}
    }
    pub fn profile(&self) -> Profile {
        match *self {}
    }
    pub fn add_vector(&mut self, _: &str, _: &[f32]) {
        match *self {}
    }
    pub fn matrix(&mut self, _: &str, _: &[(TensorType, usize)], _: usize) -> Result<Up> {
        match *self {}
    }
    pub fn set_context(&mut self, _: &Graph, _: usize, _: bool) -> Result<()> {
        match *self {}
    }
    pub fn prepare(&mut self, _: Graph, _: usize) -> Result<()> {
        match *self {}
    }
    pub fn prefill(&mut self, _: &[u32], _: usize, _: &Sampling, _: bool) -> Result<()> {
        match *self {}
    }
    pub fn decode(&mut self, _: usize, _: &Sampling) -> Result<()> {
        match *self {}
    }
    pub async fn take(&mut self, _: bool) -> Result<(u32, Vec<f32>)> {
        match *self {}
    }
    pub async fn discard(&mut self) -> Result<()> {
        match *self {}
    }
    pub fn set_seen(&mut self, _: &[u32]) {
        match *self {}
    }
    pub async fn all_logits(&mut self, _: &Graph, _: &[u32], _: usize) -> Result<Vec<f32>> {
        match *self {}
    }
}
pub fn stored_as(_: TensorType) -> &'static str {
    "?"
}

use std::fmt;

/// Which kernels run, chosen when the device is opened. All give the same results up to rounding;
/// `SgDot4` computes with integer activations, as `Cpu` does in prefills.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Profile {
    /// For drivers that run shaders on the CPU: no reductions across threads.
    Cpu,
    /// Shared memory only; runs everywhere.
    Base,
    /// Reductions by subgroups.
    Sg,
    /// Subgroups, and dot products of packed 8-bit integers.
    SgDot4,
}

impl Profile {
    /// All profiles.
    pub const ALL: [Self; 4] = [Self::Cpu, Self::Base, Self::Sg, Self::SgDot4];

    /// Whether its kernels use subgroups.
    pub fn needs_subgroups(self) -> bool {
        matches!(self, Self::Sg | Self::SgDot4)
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpu => "cpu",
            Self::Base => "base",
            Self::Sg => "sg",
            Self::SgDot4 => "sg_dot4",
        })
    }
}

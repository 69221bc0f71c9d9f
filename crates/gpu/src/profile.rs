use std::fmt;
use std::str::FromStr;

/// How the threads of a workgroup add up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reduce {
    /// Through shared memory.
    Workgroup,
    /// By subgroup operations.
    Subgroup,
}

/// How quantised weights are multiplied with activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Product {
    /// In f32.
    Float,
    /// As packed 8-bit integers, in kernels that have that form.
    Dot4,
}

/// How threads share the rows of a matrix of weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Layout {
    /// Every thread computes whole rows: no reductions across threads.
    Rows,
    /// The threads of a workgroup share each row, or a tile of rows.
    Shared,
}

/// Which kernels run, chosen when the device is opened. All give the same results up to rounding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Profile {
    /// How the threads of a workgroup add up.
    pub reduce: Reduce,
    /// How quantised weights are multiplied with activations.
    pub product: Product,
    /// How threads share rows of weights.
    pub layout: Layout,
}

impl Profile {
    /// For drivers that run shaders on the CPU. Integer products are in prefills.
    pub const CPU: Self = Self {
        reduce: Reduce::Workgroup,
        product: Product::Dot4,
        layout: Layout::Rows,
    };
    /// Runs everywhere.
    pub const BASE: Self = Self {
        reduce: Reduce::Workgroup,
        product: Product::Float,
        layout: Layout::Shared,
    };
    /// For GPUs with subgroups.
    pub const SG: Self = Self {
        reduce: Reduce::Subgroup,
        ..Self::BASE
    };
    /// Integer products are in decoding.
    pub const SG_DOT4: Self = Self {
        product: Product::Dot4,
        ..Self::SG
    };

    /// The profiles that have names.
    pub const NAMED: [(&str, Self); 4] = [
        ("cpu", Self::CPU),
        ("base", Self::BASE),
        ("sg", Self::SG),
        ("sg_dot4", Self::SG_DOT4),
    ];

    /// Whether its kernels use subgroups.
    /// Whether the adapter must have subgroups.
    pub fn needs_subgroups(self) -> bool {
        self.reduce == Reduce::Subgroup
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::NAMED.iter().find(|(_, profile)| profile == self) {
            Some((name, _)) => f.write_str(name),
            None => write!(f, "{:?}_{:?}_{:?}", self.reduce, self.product, self.layout),
        }
    }
}

impl FromStr for Profile {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::NAMED.iter().find(|(known, _)| *known == name);
        found.map(|(_, profile)| *profile).ok_or_else(|| {
            let known = Self::NAMED.map(|(name, _)| name).join(", ");
            format!("there is no profile `{name}`; there are {known}")
        })
    }
}

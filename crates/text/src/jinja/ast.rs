//! A template's syntax tree. Names are indices into a table, and macros and loops, which are called later, are in lists
//! so that values can refer to them.

pub type Symbol = u32;

#[derive(Debug)]
pub struct Stmt {
    pub line: usize,
    pub kind: StmtKind,
}

#[derive(Debug)]
pub enum StmtKind {
    Data(String),
    Print(Expr),
    If {
        branches: Vec<(Expr, Vec<Stmt>)>,
        otherwise: Vec<Stmt>,
    },
    For(usize),
    Set(Target, Expr),
    /// The filters wrap `Hole`, which is the block's text.
    SetBlock(Target, Option<Expr>, Vec<Stmt>),
    Macro(usize),
    /// The macro is the block's body.
    Call(Expr, usize),
    Filter(Expr, Vec<Stmt>),
    With(Vec<(Target, Expr)>, Vec<Stmt>),
    Generation(Vec<Stmt>),
    Block(Vec<Stmt>),
    Break,
    Continue,
}

#[derive(Debug)]
pub enum Target {
    Name(Symbol),
    /// An attribute of a namespace.
    Attribute(Symbol, String),
    Tuple(Vec<Target>),
}

#[derive(Debug)]
pub struct For {
    pub target: Target,
    pub over: Expr,
    pub condition: Option<Expr>,
    pub recursive: bool,
    pub body: Vec<Stmt>,
    pub otherwise: Vec<Stmt>,
}

#[derive(Debug)]
pub struct Macro {
    pub name: String,
    pub params: Vec<(Symbol, Option<Expr>)>,
    pub body: Vec<Stmt>,
    /// Whether the body uses them: only then may a call pass more than the parameters.
    pub uses_varargs: bool,
    pub uses_kwargs: bool,
    pub uses_caller: bool,
}

#[derive(Debug)]
pub struct Expr {
    pub line: usize,
    pub height: usize,
    pub kind: Box<ExprKind>,
}

#[derive(Debug, Default)]
pub struct Args {
    pub positional: Vec<Expr>,
    pub named: Vec<(String, Expr)>,
    pub star: Option<Expr>,
    pub star_star: Option<Expr>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    FloorDiv,
    Mod,
    Pow,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compare {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    In,
    NotIn,
}

#[derive(Debug)]
pub enum ExprKind {
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(String),
    Name(Symbol),
    /// The text to which a block's filters are applied.
    Hole,
    List(Vec<Expr>),
    Tuple(Vec<Expr>),
    Dict(Vec<(Expr, Expr)>),
    Not(Expr),
    Neg(Expr),
    Pos(Expr),
    And(Expr, Expr),
    Or(Expr, Expr),
    Binary(Binary, Expr, Expr),
    Concat(Vec<Expr>),
    Compare(Expr, Vec<(Compare, Expr)>),
    /// Condition, value, other value.
    Cond(Expr, Expr, Option<Expr>),
    Attribute(Expr, String),
    Item(Expr, Expr),
    Slice(Expr, [Option<Expr>; 3]),
    Call(Expr, Args),
    Filter(Expr, String, Args),
    Test(Expr, String, Args),
}

#[derive(Debug, Default)]
pub struct Tree {
    pub body: Vec<Stmt>,
    pub macros: Vec<Macro>,
    pub loops: Vec<For>,
    pub symbols: Vec<String>,
    pub has_generation: bool,
}

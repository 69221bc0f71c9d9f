//! The order of a module's functions, which decides how well it compresses.

use std::collections::HashMap;

use anyhow::{Context, Result};
use wasm_encoder::reencode::{Error, Reencode, utils};
use wasm_encoder::{CodeSection, FunctionSection, Module};
use wasmparser::{
    CodeSectionReader, CustomSectionReader, FunctionSectionReader, KnownCustom, Name, Parser,
    Payload, TypeRef,
};

/// The module with its functions in the order of their names, of one name the shorter first; without custom sections.
///
/// Instances of one generic function are nearly alike, and come to stand beside each other: a compressor finds what
/// repeats within a window (of 32 KiB in gzip), which the linker's order spreads over megabytes.
///
/// # Errors
/// If the module is not valid, or has no names.
pub fn by_name(wasm: &[u8]) -> Result<Vec<u8>> {
    let (n_imported, functions) = read(wasm)?;
    let mut order: Vec<u32> = (0..functions.len() as u32).collect();
    order.sort_by_cached_key(|i| {
        let (name, bytes) = &functions[*i as usize];
        (without_types(name), *bytes)
    });
    let mut places = vec![0; order.len()];
    for (place, function) in order.iter().enumerate() {
        places[*function as usize] = place as u32;
    }
    let mut reorder = Reorder {
        n_imported,
        order,
        places,
    };
    let mut module = Module::new();
    reorder
        .parse_core_module(&mut module, Parser::new(0), wasm)
        .context("cannot order the functions")?;
    Ok(module.finish())
}

/// A demangled name without what is between angle brackets.
fn without_types(name: &str) -> String {
    let mut depth = 0;
    let mut keep = |c: char| {
        match c {
            '<' => depth += 1,
            '>' if depth > 0 => depth -= 1,
            _ => return depth == 0,
        }
        false
    };
    name.replace("->", "")
        .chars()
        .filter(|c| keep(*c))
        .collect()
}

/// How many functions are imported, and the names of the others with the bytes of their bodies.
fn read(wasm: &[u8]) -> Result<(u32, Vec<(String, usize)>)> {
    let mut n_imported = 0;
    let mut bytes = vec![];
    let mut names = HashMap::new();
    for payload in Parser::new(0).parse_all(wasm) {
        match payload? {
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    if matches!(import?.ty, TypeRef::Func(_) | TypeRef::FuncExact(_)) {
                        n_imported += 1;
                    }
                }
            }
            Payload::CodeSectionEntry(body) => bytes.push(body.range().len()),
            Payload::CustomSection(section) => {
                let KnownCustom::Name(subsections) = section.as_known() else {
                    continue;
                };
                for subsection in subsections {
                    let Name::Function(map) = subsection? else {
                        continue;
                    };
                    for naming in map {
                        let naming = naming?;
                        names.insert(naming.index, naming.name.to_string());
                    }
                }
            }
            _ => {}
        }
    }
    anyhow::ensure!(!names.is_empty(), "the module has no names of functions");
    let named = |(index, bytes)| (names.remove(&index).unwrap_or_default(), bytes);
    Ok((n_imported, (n_imported..).zip(bytes).map(named).collect()))
}

/// Indices are of the functions that are not imported.
struct Reorder {
    n_imported: u32,
    order: Vec<u32>,
    /// Where in `order` each function is.
    places: Vec<u32>,
}

impl Reorder {
    fn ordered<T: Clone>(&self, all: &[T]) -> Vec<T> {
        let at = |i: &u32| all[*i as usize].clone();
        self.order.iter().map(at).collect()
    }
}

impl Reencode for Reorder {
    type Error = std::convert::Infallible;

    fn function_index(&mut self, function: u32) -> Result<u32, Error> {
        Ok(match function.checked_sub(self.n_imported) {
            None => function,
            Some(defined) => self.n_imported + self.places[defined as usize],
        })
    }

    fn parse_function_section(
        &mut self,
        functions: &mut FunctionSection,
        section: FunctionSectionReader<'_>,
    ) -> Result<(), Error> {
        let types: Vec<u32> = section.into_iter().collect::<Result<_, _>>()?;
        for ty in self.ordered(&types) {
            functions.function(ty);
        }
        Ok(())
    }

    fn parse_code_section(
        &mut self,
        code: &mut CodeSection,
        section: CodeSectionReader<'_>,
    ) -> Result<(), Error> {
        let bodies: Vec<_> = section.into_iter().collect::<Result<_, _>>()?;
        for body in self.ordered(&bodies) {
            utils::parse_function_body(self, code, body)?;
        }
        Ok(())
    }

    fn parse_custom_section(
        &mut self,
        _: &mut Module,
        _: CustomSectionReader<'_>,
    ) -> Result<(), Error> {
        Ok(())
    }
}

//! The crate's source as a tree of modules: what each imports, and which functions it has.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{TokenStream, TokenTree};
use syn::{
    Attribute, File, Ident, ImplItemFn, Item, ItemFn, ItemImpl, ItemMod, ItemTrait, ItemUse, Macro,
    Meta, Path, TraitItemFn, Type, UseTree, Visibility,
    visit::{self, Visit},
};

/// A module: its name from the root of the crate.
type Module = Vec<String>;

/// The modules of a crate. Inner modules are modules of their own, in the same file.
pub(super) struct Crate {
    modules: BTreeMap<Module, Source>,
}

#[derive(Default)]
struct Source {
    file: String,
    uses: Vec<Use>,
    /// Paths in the code.
    paths: BTreeSet<Vec<String>>,
}

struct Use {
    public: bool,
    path: Vec<String>,
    /// Its name here; `*` for a glob.
    name: String,
}

impl Crate {
    pub(super) fn read(files: &[(String, String)]) -> Self {
        let mut modules = BTreeMap::new();
        for (file, text) in files {
            let parsed: File =
                syn::parse_file(text).unwrap_or_else(|error| panic!("{file}: {error}"));
            let mut reader = Reader {
                file,
                module: module_of(file),
                modules: &mut modules,
            };
            reader.source();
            reader.visit_file(&parsed);
        }
        Crate { modules }
    }

    /// Every import: a file, and the file that defines what it imports.
    pub(super) fn imports(&self) -> BTreeSet<(String, String)> {
        let mut imports = BTreeSet::new();
        for (module, source) in &self.modules {
            // The root declares all of them.
            if source.file == "lib.rs" {
                continue;
            }
            let mut paths: BTreeSet<&Vec<String>> = source.paths.iter().collect();
            for import in &source.uses {
                // A re-export of its own parts is for others, unless the module uses the name itself.
                let own = import.public
                    && self
                        .absolute(module, &import.path)
                        .is_some_and(|path| path.starts_with(module));
                let used = source.paths.iter().any(|path| path[0] == import.name);
                if !own || used {
                    paths.insert(&import.path);
                }
            }
            for path in paths {
                if let Some(to) = self.resolve(module, path, 0)
                    && to != source.file
                {
                    imports.insert((source.file.clone(), to));
                }
            }
        }
        imports
    }

    /// A path from the root of the crate, if it begins in this crate.
    fn absolute(&self, from: &[String], path: &[String]) -> Option<Vec<String>> {
        let mut module = from.to_vec();
        let mut rest = path;
        match path.first()?.as_str() {
            "crate" => {
                module.clear();
                rest = &rest[1..];
            }
            "self" => rest = &rest[1..],
            "super" => {}
            first if self.modules.contains_key(&child(from, first)) => {}
            _ => return None,
        }
        while rest.first().is_some_and(|segment| segment == "super") {
            module.pop();
            rest = &rest[1..];
        }
        Some([&module[..], rest].concat())
    }

    /// The file that defines what this path names, if that is in this crate.
    fn resolve(&self, from: &[String], path: &[String], depth: usize) -> Option<String> {
        if depth > 16 {
            return None;
        }
        let Some(whole) = self.absolute(from, path) else {
            // A name that is imported here.
            let source = self.modules.get(from)?;
            let import = source.uses.iter().find(|import| import.name == path[0])?;
            if import.path == path {
                return None;
            }
            let through = [&import.path[..], &path[1..]].concat();
            return self.resolve(from, &through, depth + 1);
        };
        let inner = (0..=whole.len())
            .rev()
            .find(|n| self.modules.contains_key(&whole[..*n]))?;
        let (module, rest) = whole.split_at(inner);
        let source = self.modules.get(module)?;
        let exported = rest
            .first()
            .and_then(|name| source.uses.iter().find(|import| import.name == *name));
        match exported {
            Some(import) => {
                let through = [&import.path[..], &rest[1..]].concat();
                self.resolve(module, &through, depth + 1)
            }
            None => Some(source.file.clone()),
        }
    }
}

/// The functions of a file, those of types also as `Type::name`.
pub(super) fn functions(text: &str) -> BTreeSet<String> {
    #[derive(Default)]
    struct Functions {
        of: Option<String>,
        found: BTreeSet<String>,
    }
    impl Functions {
        fn add(&mut self, name: &Ident) {
            self.found.insert(name.to_string());
            if let Some(of) = &self.of {
                self.found.insert(format!("{of}::{name}"));
            }
        }
    }
    impl<'a> Visit<'a> for Functions {
        fn visit_item_fn(&mut self, function: &'a ItemFn) {
            self.add(&function.sig.ident);
        }
        fn visit_impl_item_fn(&mut self, function: &'a ImplItemFn) {
            self.add(&function.sig.ident);
        }
        fn visit_trait_item_fn(&mut self, function: &'a TraitItemFn) {
            self.add(&function.sig.ident);
        }
        fn visit_item_impl(&mut self, block: &'a ItemImpl) {
            if let Type::Path(of) = &*block.self_ty {
                self.of = of.path.segments.last().map(|last| last.ident.to_string());
            }
            visit::visit_item_impl(self, block);
            self.of = None;
        }
        fn visit_item_trait(&mut self, block: &'a ItemTrait) {
            self.of = Some(block.ident.to_string());
            visit::visit_item_trait(self, block);
            self.of = None;
        }
    }
    let mut functions = Functions::default();
    functions.visit_file(&syn::parse_file(text).unwrap());
    functions.found
}

struct Reader<'a> {
    file: &'a str,
    module: Module,
    modules: &'a mut BTreeMap<Module, Source>,
}

impl Reader<'_> {
    fn source(&mut self) -> &mut Source {
        let source = self.modules.entry(self.module.clone()).or_default();
        self.file.clone_into(&mut source.file);
        source
    }

    /// The paths among tokens that nobody parses: a macro's.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) if colons == 2 => path.push(ident.to_string()),
                TokenTree::Ident(ident) => {
                    self.path(std::mem::replace(&mut path, vec![ident.to_string()]));
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' && colons < 2 => {
                    colons += 1;
                    continue;
                }
                TokenTree::Group(group) => {
                    self.path(std::mem::take(&mut path));
                    self.tokens(group.stream());
                }
                _ => self.path(std::mem::take(&mut path)),
            }
            colons = 0;
        }
        self.path(path);
    }

    fn path(&mut self, path: Vec<String>) {
        if !path.is_empty() {
            self.source().paths.insert(path);
        }
    }
}

impl<'a> Visit<'a> for Reader<'_> {
    fn visit_item(&mut self, item: &'a Item) {
        let attributes = match item {
            Item::Mod(item) => &item.attrs,
            Item::Use(item) => &item.attrs,
            Item::Fn(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            _ => &Vec::new(),
        };
        if !attributes.iter().any(is_for_tests) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'a ItemMod) {
        if let Some((_, items)) = &item.content {
            self.module.push(item.ident.to_string());
            self.source();
            for item in items {
                self.visit_item(item);
            }
            self.module.pop();
        }
    }

    fn visit_item_use(&mut self, item: &'a ItemUse) {
        let public = !matches!(item.vis, Visibility::Inherited);
        let mut found = Vec::new();
        expand(&item.tree, &[], public, &mut found);
        self.source().uses.extend(found);
    }

    fn visit_path(&mut self, path: &'a Path) {
        if path.leading_colon.is_none() {
            let segments = path.segments.iter();
            self.path(segments.map(|part| part.ident.to_string()).collect());
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'a Macro) {
        self.visit_path(&call.path);
        self.tokens(call.tokens.clone());
    }

    // Documentation may name anything.
    fn visit_attribute(&mut self, _: &'a Attribute) {}

    // `pub(super)` is no import.
    fn visit_visibility(&mut self, _: &'a Visibility) {}
}

/// `#[cfg(test)]`.
fn is_for_tests(attribute: &Attribute) -> bool {
    matches!(&attribute.meta, Meta::List(list)
        if list.path.is_ident("cfg") && list.tokens.to_string() == "test")
}

/// `a::{b, c as d}` is two uses.
fn expand(tree: &UseTree, above: &[String], public: bool, uses: &mut Vec<Use>) {
    let one = |path: Vec<String>, name: &str| Use {
        public,
        path,
        name: name.to_owned(),
    };
    match tree {
        UseTree::Path(path) => {
            let above = child(above, &path.ident.to_string());
            expand(&path.tree, &above, public, uses);
        }
        UseTree::Group(group) => {
            for tree in &group.items {
                expand(tree, above, public, uses);
            }
        }
        UseTree::Name(name) if name.ident == "self" => {
            let last = above.last().cloned().unwrap_or_default();
            uses.push(one(above.to_vec(), &last));
        }
        UseTree::Name(name) => {
            let name = name.ident.to_string();
            uses.push(one(child(above, &name), &name));
        }
        UseTree::Rename(rename) => {
            let path = match rename.ident.to_string().as_str() {
                "self" => above.to_vec(),
                name => child(above, name),
            };
            uses.push(one(path, &rename.rename.to_string()));
        }
        UseTree::Glob(_) => uses.push(one(above.to_vec(), "*")),
    }
}

fn child(module: &[String], name: &str) -> Vec<String> {
    [module, &[name.to_owned()]].concat()
}

/// `task/table/mod.rs` is `[task, table]`, `task/id.rs` is `[task, id]`.
fn module_of(file: &str) -> Module {
    let path = file.trim_end_matches(".rs").trim_end_matches("/mod");
    match path {
        "lib" => Vec::new(),
        path => path.split('/').map(str::to_owned).collect(),
    }
}

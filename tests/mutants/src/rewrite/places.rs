//! Where in a file's syntax a mutant may stand, in bytes. Says nothing of what is put there.

use std::collections::HashMap;
use std::ops::Range;

use proc_macro2::Span;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use crate::list::Lines;

/// A match arm.
pub struct Arm {
    /// What is matched.
    pub matched: Range<usize>,
    pub pattern: Range<usize>,
    pub guard: Option<Range<usize>>,
    /// Whether the guard has a `let`, which may stand in no parentheses.
    pub binds_in_guard: bool,
}

/// A function's body.
pub struct Body {
    /// From the first statement to the last.
    pub statements: Range<usize>,
    /// The function promises some iterator, so that two returns of different types do not do.
    pub gives_iterator: bool,
}

/// The places of one file.
#[derive(Default)]
pub struct Places {
    /// By where an operator begins: the expression to copy when it is changed.
    pub operators: HashMap<usize, Range<usize>>,
    pub structs: Vec<Range<usize>>,
    pub arms: Vec<Arm>,
    /// Guards that may be copied.
    pub guards: Vec<Range<usize>>,
    pub bodies: Vec<Body>,
}

impl Places {
    pub fn of(file: &syn::File, lines: &Lines<'_>) -> Self {
        let mut finder = Finder { lines, chain: None, places: Self::default() };
        finder.visit_file(file);
        finder.places
    }
}

struct Finder<'lines> {
    lines: &'lines Lines<'lines>,
    /// The whole of the chain of binary operators whose operand is visited next.
    chain: Option<Range<usize>>,
    places: Places,
}

impl Finder<'_> {
    fn bytes(&self, span: Span) -> Range<usize> {
        let (start, end) = (span.start(), span.end());
        self.lines.byte(start.line, start.column)..self.lines.byte(end.line, end.column)
    }

    fn body(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let (Some(first), Some(last)) = (block.stmts.first(), block.stmts.last()) else { return };
        let statements = self.bytes(first.span()).start..self.bytes(last.span()).end;
        let gives_iterator = matches!(&signature.output, syn::ReturnType::Type(_, kind)
            if matches!(&**kind, syn::Type::ImplTrait(_)));
        self.places.bodies.push(Body { statements, gives_iterator });
    }

    fn arm(&mut self, matched: Range<usize>, arm: &syn::Arm) {
        let (pattern, guard) = match &arm.pat {
            syn::Pat::Guard(guarded) => (&*guarded.pat, Some(&*guarded.guard)),
            pattern => (pattern, None),
        };
        let (pattern, binds_in_guard) = (self.bytes(pattern.span()), guard.is_some_and(binds));
        let guard = guard.map(|guard| self.bytes(guard.span()));
        if let Some(guard) = guard.clone().filter(|_| !binds_in_guard) {
            self.places.guards.push(guard);
        }
        self.places.arms.push(Arm { matched, pattern, guard, binds_in_guard });
    }
}

/// Whether one of the operands of a chain is a `let`: such a chain may stand in no parentheses.
fn binds(expression: &syn::Expr) -> bool {
    match expression {
        syn::Expr::Let(_) => true,
        syn::Expr::Binary(binary) => binds(&binary.left) || binds(&binary.right),
        _ => false,
    }
}

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_expr(&mut self, expression: &'ast syn::Expr) {
        let chain = self.chain.take();
        let syn::Expr::Binary(binary) = expression else {
            return visit::visit_expr(self, expression);
        };
        let whole = if binds(expression) {
            None
        } else {
            let whole = chain.unwrap_or_else(|| self.bytes(expression.span()));
            let at = self.bytes(binary.op.span()).start;
            self.places.operators.insert(at, whole.clone());
            Some(whole)
        };
        self.chain.clone_from(&whole);
        self.visit_expr(&binary.left);
        self.chain = whole;
        self.visit_expr(&binary.right);
        self.chain = None;
    }

    fn visit_expr_unary(&mut self, unary: &'ast syn::ExprUnary) {
        let at = self.bytes(unary.op.span()).start;
        let whole = self.bytes(unary.span());
        self.places.operators.insert(at, whole);
        visit::visit_expr_unary(self, unary);
    }

    fn visit_expr_struct(&mut self, expression: &'ast syn::ExprStruct) {
        let whole = self.bytes(expression.span());
        self.places.structs.push(whole);
        visit::visit_expr_struct(self, expression);
    }

    fn visit_expr_match(&mut self, expression: &'ast syn::ExprMatch) {
        let matched = self.bytes(expression.expr.span());
        for arm in &expression.arms {
            self.arm(matched.clone(), arm);
        }
        visit::visit_expr_match(self, expression);
    }

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.body(&function.sig, &function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.body(&function.sig, &function.block);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        if let Some(block) = &function.default {
            self.body(&function.sig, block);
        }
        visit::visit_trait_item_fn(self, function);
    }
}

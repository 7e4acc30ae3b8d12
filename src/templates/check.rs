//! Finding every mistake of a text before it is sent: unknown fields by walking the parsed text, missing values by
//! filling it with examples.
//!
//! Conditions of flows are walked in the same way. The language is kept small on purpose: fuel counts steps, not what one step does, so whatever could make a value grow
//! (joining, multiplying, lists, calls) is refused here. What is left is bounded by the event.

use std::collections::BTreeMap;

use chrono_tz::Tz;
use counterpart_core::business::EventKind;
use counterpart_core::mapping::Diagnostic;
use minijinja::machinery::{Span, ast, parse, parse_expr};
use minijinja::value::{Value, ValueKind};
use minijinja::{Error, ErrorKind};
use serde_json::{Value as Json, json};

use super::fields;
use super::file::File;
use super::locale::Formats;
use super::render::{self, FILTERS, Prepared};

/// What may be written in one place, and where to read about it.
pub(super) struct Language {
    filters: &'static [&'static str],
    way_out: &'static str,
}

/// Texts of messages.
const TEXTS: Language = Language {
    filters: &FILTERS,
    way_out: "texts print fields, choose with `if` and repeat with `for`; see docs/messages.md",
};

/// Conditions of flows.
const CONDITIONS: Language = Language {
    filters: &render::PLAIN_FILTERS,
    way_out: "a condition compares fields of its event; see docs/flows.md",
};

const CATEGORIES: [&str; 6] = ["zero", "one", "two", "few", "many", "other"];

/// Everything that is wrong with a file's text.
pub(super) fn check(file: &File, formats: &Formats) -> Vec<Diagnostic> {
    let prepared = Prepared::new(file.body());
    let parsed = match parse(&prepared.text, "message", render::syntax()) {
        Ok(parsed) => parsed,
        Err(error) => return vec![mistake(file, &prepared, &error)],
    };
    let example = fields::json(&fields::full(file.event.topic()));
    // What a loop tells about itself, minijinja's own.
    let about_loop = json!({ "index": 1, "index0": 0, "first": true, "last": true, "length": 2 });
    let mut walk = Walk::new(&TEXTS, file.event, &prepared, &about_loop, &example);
    walk.statement(&parsed);
    if !walk.found.is_empty() {
        let told = |wrong: Wrong| file.mistake(prepared.original(wrong.offset), wrong.message, wrong.help);
        return walk.found.into_iter().map(told).collect();
    }
    let engine = render::engine(formats, Some(Tz::UTC));
    let mut examples = vec![example];
    examples.extend(fields::gaps(file.event.topic()));
    // One mistake shows in many examples.
    let mut found: Vec<Diagnostic> = Vec::new();
    for example in &examples {
        match render::fill(&engine, &prepared, example) {
            Ok(text) if text.is_empty() => {
                let help = "leave some text that is always there";
                found.push(file.mistake(0, "nothing is left when the event says little", help));
            }
            Ok(_) => {}
            Err(error) => found.push(mistake(file, &prepared, &error)),
        }
    }
    found.sort_by_key(|problem| (problem.line, problem.column));
    found.dedup();
    found
}

/// What a condition on an event asks that the event does not offer, or compares that cannot be compared.
pub(super) fn condition(text: &str, event: EventKind) -> Vec<Wrong> {
    let prepared = Prepared::plain(text);
    let parsed = match parse_expr(&prepared.text) {
        Ok(parsed) => parsed,
        Err(error) => {
            let detail = error.detail().unwrap_or("it is no condition").to_owned();
            let message = format!("the condition cannot be read: {detail}");
            return vec![Wrong { offset: 0, message, help: CONDITIONS.way_out.to_owned() }];
        }
    };
    let example = fields::json(&fields::full(event.topic()));
    let no_loop = Json::Null;
    let mut walk = Walk::new(&CONDITIONS, event, &prepared, &no_loop, &example);
    walk.expression(&parsed);
    walk.found
}

/// A mistake, and where it stands in the text that was parsed.
pub(super) struct Wrong {
    offset: usize,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: String,
}

/// An error of the engine in our words.
pub(super) fn mistake(file: &File, prepared: &Prepared, error: &Error) -> Diagnostic {
    let mut range = error.range().unwrap_or_default();
    range.start = prepared.begin(range.start);
    let at = prepared.original(range.start);
    let written = prepared.text.get(range).map(|text| text.trim_matches(['{', '}', ' '])).unwrap_or_default();
    let detail = error.detail().unwrap_or_default();
    match error.kind() {
        ErrorKind::UndefinedError if render::is_gap(error) => {
            let message = format!("`{written}` may be missing");
            file.mistake(at, message, "put `{% if … %}` and `{% endif %}` around it, or add `| default(\"…\")`")
        }
        ErrorKind::OutOfFuel => file.mistake(at, "this takes too long", "use fewer loops inside each other"),
        ErrorKind::WriteFailure | ErrorKind::BadSerialization => {
            let message = format!("the message is longer than {} bytes", render::MAX_OUTPUT);
            file.mistake(at, message, "print less")
        }
        ErrorKind::SyntaxError => file.mistake(at, detail, "docs/messages.md shows how texts are written"),
        kind => {
            let message = if detail.is_empty() { kind.to_string() } else { detail.to_owned() };
            file.mistake(at, message, "docs/messages.md says what each filter takes")
        }
    }
}

/// What is known of a value: an example of it, or nothing.
type Shape<'a> = Option<&'a Json>;

type Scope<'a> = BTreeMap<&'a str, Shape<'a>>;

fn root(example: &Json) -> Scope<'_> {
    example.as_object().into_iter().flatten().map(|(name, value)| (name.as_str(), Some(value))).collect()
}

struct Walk<'a> {
    language: &'a Language,
    event: EventKind,
    prepared: &'a Prepared,
    about_loop: &'a Json,
    scopes: Vec<Scope<'a>>,
    found: Vec<Wrong>,
}

impl<'a> Walk<'a> {
    fn new(
        language: &'a Language,
        event: EventKind,
        prepared: &'a Prepared,
        about_loop: &'a Json,
        example: &'a Json,
    ) -> Walk<'a> {
        Walk { language, event, prepared, about_loop, scopes: vec![root(example)], found: Vec::new() }
    }

    fn wrong(&mut self, offset: usize, message: impl Into<String>, help: impl Into<String>) {
        let offset = self.prepared.begin(offset);
        self.found.push(Wrong { offset, message: message.into(), help: help.into() });
    }

    fn refuse(&mut self, span: Span, what: &str) {
        self.wrong(span.start_offset as usize, format!("{what} cannot be used here"), self.language.way_out);
    }

    fn body(&mut self, statements: &[ast::Stmt<'a>]) {
        for statement in statements {
            self.statement(statement);
        }
    }

    fn statement(&mut self, statement: &ast::Stmt<'a>) {
        match statement {
            ast::Stmt::Template(template) => self.body(&template.children),
            ast::Stmt::EmitRaw(_) => {}
            ast::Stmt::EmitExpr(emit) => {
                if let Some(Json::Object(_) | Json::Array(_)) = self.expression(&emit.expr) {
                    let help = "print its parts; a list goes through `{% for … %}`";
                    self.wrong(start(&emit.expr), "a list or a group of fields cannot be printed", help);
                }
            }
            ast::Stmt::IfCond(cond) => {
                self.expression(&cond.expr);
                self.body(&cond.true_body);
                self.body(&cond.false_body);
            }
            ast::Stmt::ForLoop(each) => self.for_loop(each),
            ast::Stmt::Set(set) => {
                let shape = self.expression(&set.expr);
                self.bind(&set.target, shape);
            }
            ast::Stmt::WithBlock(with) => {
                self.scopes.push(Scope::new());
                for (target, value) in &with.assignments {
                    let shape = self.expression(value);
                    self.bind(target, shape);
                }
                self.body(&with.body);
                self.scopes.pop();
            }
            ast::Stmt::SetBlock(block) => self.refuse(block.span(), "`set` with a block"),
            ast::Stmt::AutoEscape(block) => self.refuse(block.span(), "`autoescape`"),
            ast::Stmt::FilterBlock(block) => self.refuse(block.span(), "`filter`"),
            ast::Stmt::Do(call) => self.refuse(call.span(), "`do`"),
            // Other crates may switch on features of the engine that we do not ask for.
            #[allow(unreachable_patterns)]
            _ => self.wrong(0, "this tag cannot be used here", "see docs/messages.md"),
        }
    }

    fn for_loop(&mut self, each: &ast::Spanned<ast::ForLoop<'a>>) {
        let item = match self.expression(&each.iter) {
            Some(Json::Array(list)) => list.first(),
            Some(_) => {
                self.wrong(start(&each.iter), "this is no list", "`order.items` and `shipment.items` are lists");
                None
            }
            None => None,
        };
        if each.recursive {
            self.refuse(each.span(), "`recursive`");
        }
        self.scopes.push(Scope::from([("loop", Some(self.about_loop))]));
        self.bind(&each.target, item);
        if let Some(filter) = &each.filter_expr {
            self.expression(filter);
        }
        self.body(&each.body);
        self.scopes.pop();
        self.body(&each.else_body);
    }

    fn bind(&mut self, target: &ast::Expr<'a>, shape: Shape<'a>) {
        match target {
            ast::Expr::Var(name) => {
                if let Some(scope) = self.scopes.last_mut() {
                    scope.insert(name.id, shape);
                }
            }
            other => self.refuse(other.span(), "more than one name"),
        }
    }

    fn expression(&mut self, expression: &ast::Expr<'a>) -> Shape<'a> {
        match expression {
            ast::Expr::Var(name) => self.variable(name),
            ast::Expr::Const(_) => None,
            ast::Expr::GetAttr(get) => {
                let base = self.expression(&get.expr);
                let from = get.expr.span().end_offset as usize;
                let at = self.prepared.text.get(from..).and_then(|rest| rest.find(get.name)).unwrap_or_default();
                self.member(base, get.name, from + at)
            }
            ast::Expr::GetItem(get) => {
                let base = self.expression(&get.expr);
                match (&get.subscript_expr, base) {
                    (ast::Expr::Const(key), _) if key.value.as_str().is_some() => {
                        self.member(base, &key.value.to_string(), start(&get.subscript_expr))
                    }
                    (ast::Expr::Const(_), Some(Json::Array(list))) => list.first(),
                    _ => {
                        self.refuse(expression.span(), "`[…]`");
                        None
                    }
                }
            }
            ast::Expr::Slice(slice) => {
                for part in [&slice.start, &slice.stop, &slice.step].into_iter().flatten() {
                    self.expression(part);
                }
                self.expression(&slice.expr)
            }
            ast::Expr::UnaryOp(unary) => {
                self.expression(&unary.expr);
                None
            }
            ast::Expr::BinOp(binary) => self.binary(binary),
            ast::Expr::Compare(compare) => {
                use ast::CompareOpKind::{Eq, In, Ne, NotIn};
                let mut left = (&compare.expr, self.expression(&compare.expr));
                for op in &compare.ops {
                    let right = (&op.expr, self.choice(&op.expr));
                    match op.op {
                        In | NotIn => self.chosen(left, right),
                        Eq | Ne => self.comparable(left, right, false),
                        _ => self.comparable(left, right, true),
                    }
                    left = right;
                }
                None
            }
            ast::Expr::IfExpr(cond) => {
                self.expression(&cond.test_expr);
                let shape = self.expression(&cond.true_expr);
                let other = cond.false_expr.as_ref().and_then(|other| self.expression(other));
                shape.or(other)
            }
            ast::Expr::Filter(filter) => self.filter(filter),
            ast::Expr::Test(test) => {
                self.expression(&test.expr);
                let help = "the field alone asks whether it is there: `order.url`, `not order.url`";
                self.wrong(test.span().start_offset as usize, format!("`is {}` cannot be used here", test.name), help);
                None
            }
            ast::Expr::Call(_) | ast::Expr::List(_) | ast::Expr::Tuple(_) | ast::Expr::Map(_) => {
                self.refuse(expression.span(), &format!("a {}", expression.description()));
                None
            }
        }
    }

    fn variable(&mut self, name: &ast::Spanned<ast::Var<'a>>) -> Shape<'a> {
        if let Some(shape) = self.scopes.iter().rev().find_map(|scope| scope.get(name.id)) {
            return *shape;
        }
        let known: Vec<&str> = self.scopes.iter().flat_map(|scope| scope.keys().copied()).collect();
        let help = suggestion(name.id, &known);
        let message = format!("`{}` does not offer `{}`", self.event, name.id);
        self.wrong(name.span().start_offset as usize, message, help);
        None
    }

    fn member(&mut self, base: Shape<'a>, name: &str, at: usize) -> Shape<'a> {
        match base? {
            Json::Object(members) => {
                if let Some(found) = members.get(name) {
                    return Some(found);
                }
                let known: Vec<&str> = members.keys().map(String::as_str).collect();
                self.wrong(at, format!("there is no field `{name}`"), suggestion(name, &known));
            }
            Json::Array(_) => {
                let help = "go through it: `{% for item in order.items %}{{ item.name }}{% endfor %}`";
                self.wrong(at, format!("a list has no field `{name}`"), help);
            }
            _ => self.wrong(at, format!("a single value has no field `{name}`"), "leave out the last dot"),
        }
        None
    }

    fn binary(&mut self, binary: &ast::Spanned<ast::BinOp<'a>>) -> Shape<'a> {
        use ast::BinOpKind::{Add, Concat, Div, Eq, FloorDiv, In, Mul, Ne, Pow, Rem, ScAnd, ScOr, Sub};
        let left = self.expression(&binary.left);
        match binary.op {
            Add | Sub | Mul | Div | FloorDiv | Rem | Pow | Concat => {
                let help = "amounts come ready from the event; texts can stand beside each other";
                self.wrong(binary.span().start_offset as usize, "nothing is calculated or joined here", help);
                self.expression(&binary.right);
                None
            }
            In => {
                let right = self.choice(&binary.right);
                self.chosen((&binary.left, left), (&binary.right, right));
                None
            }
            ScOr => {
                let right = self.expression(&binary.right);
                left.or(right)
            }
            ScAnd => {
                self.expression(&binary.right);
                None
            }
            _ => {
                let right = self.expression(&binary.right);
                let is_ordered = !matches!(binary.op, Eq | Ne);
                self.comparable((&binary.left, left), (&binary.right, right), is_ordered);
                None
            }
        }
    }

    /// Refuses a comparison whose answer is the same for every event, or goes by the alphabet.
    fn comparable(&mut self, left: Side<'_, 'a>, right: Side<'_, 'a>, is_ordered: bool) {
        let (Some(one), Some(other)) = (Kind::of(left), Kind::of(right)) else { return };
        let at = start(left.0);
        if one != other {
            let message = format!("{} is compared with {}", one.phrase(), other.phrase());
            self.wrong(at, message, one.way_to(other));
        } else if is_ordered && one == Kind::Text {
            let message = "texts have no order here: of \"120.00\" and \"50.00\" the alphabet puts the first before";
            self.wrong(at, message, AS_NUMBER);
        }
    }

    /// The same for `in`: each constant of a list, or the text that is looked into.
    fn chosen(&mut self, left: Side<'_, 'a>, right: Side<'_, 'a>) {
        let constants = match right.0 {
            ast::Expr::List(list) => list.as_const(),
            ast::Expr::Tuple(tuple) => tuple.as_const(),
            _ => None,
        };
        let Some(one) = Kind::of(left) else { return };
        let kinds: Vec<Kind> = match constants.as_ref().and_then(|list| list.try_iter().ok()) {
            Some(items) => items.filter_map(|item| Kind::of_constant(&item)).collect(),
            None => match (Kind::of(right), right.1) {
                (Some(Kind::List), Some(Json::Array(list))) => {
                    list.first().and_then(Kind::of_example).into_iter().collect()
                }
                (kind, _) => kind.into_iter().collect(),
            },
        };
        if let Some(other) = kinds.into_iter().find(|other| *other != one) {
            let message = format!("{} is looked for in {}", one.phrase(), other.phrase());
            self.wrong(start(left.0), message, one.way_to(other));
        }
    }

    /// What something is compared with: also a list of constants, as in `order.status in ["paid", "completed"]`.
    fn choice(&mut self, expression: &ast::Expr<'a>) -> Shape<'a> {
        let constants = match expression {
            ast::Expr::List(list) => list.as_const().is_some(),
            ast::Expr::Tuple(tuple) => tuple.as_const().is_some(),
            _ => false,
        };
        if constants { None } else { self.expression(expression) }
    }

    fn filter(&mut self, filter: &ast::Spanned<ast::Filter<'a>>) -> Shape<'a> {
        let inner = filter.expr.as_ref().and_then(|expression| self.expression(expression));
        let filters = self.language.filters;
        if !filters.contains(&filter.name) {
            let from =
                filter.expr.as_ref().map_or(filter.span().start_offset, |inner| inner.span().end_offset) as usize;
            let at = self.prepared.text.get(from..).and_then(|rest| rest.find(filter.name)).unwrap_or_default();
            self.wrong(from + at, format!("there is no filter `{}`", filter.name), suggestion(filter.name, filters));
        }
        let mut names = Vec::new();
        for argument in &filter.args {
            match argument {
                ast::CallArg::Pos(value) => {
                    self.expression(value);
                }
                ast::CallArg::Kwarg(name, value) => {
                    self.expression(value);
                    names.push(*name);
                    if filter.name == "plural" && !CATEGORIES.contains(name) {
                        let help = suggestion(name, &CATEGORIES);
                        self.wrong(start(value), format!("`{name}` is no plural form"), help);
                    }
                }
                ast::CallArg::PosSplat(value) | ast::CallArg::KwargSplat(value) => {
                    self.refuse(value.span(), "`*`");
                }
            }
        }
        if filter.name == "plural" && !names.contains(&"other") {
            let help = "write `plural(one=\"# item\", other=\"# items\")`; `#` is the number";
            self.wrong(filter.span().start_offset as usize, "`plural` needs the form `other`", help);
        }
        // What stands in for a missing field is to be of its kind.
        inner.filter(|_| filter.name == "default")
    }
}

/// Something that is compared, and what is known of it.
type Side<'e, 'a> = (&'e ast::Expr<'a>, Shape<'a>);

const AS_NUMBER: &str = "an amount is text; `|float` makes it a number: `order.total|float > 50`";

/// What kind of value something is, as far as comparing goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Number,
    Truth,
    List,
    Group,
}

impl Kind {
    fn of((expression, shape): Side<'_, '_>) -> Option<Kind> {
        match expression {
            ast::Expr::Const(constant) => Kind::of_constant(&constant.value),
            ast::Expr::UnaryOp(unary) if matches!(unary.op, ast::UnaryOpKind::Neg) => Some(Kind::Number),
            ast::Expr::UnaryOp(_) => Some(Kind::Truth),
            ast::Expr::Filter(filter) => match filter.name {
                "float" | "length" => Some(Kind::Number),
                "default" => shape.and_then(Kind::of_example),
                _ => Some(Kind::Text),
            },
            _ => shape.and_then(Kind::of_example),
        }
    }

    fn of_constant(value: &Value) -> Option<Kind> {
        match value.kind() {
            ValueKind::String => Some(Kind::Text),
            ValueKind::Number => Some(Kind::Number),
            ValueKind::Bool => Some(Kind::Truth),
            // `none` is what any field may be.
            _ => None,
        }
    }

    fn of_example(example: &Json) -> Option<Kind> {
        match example {
            Json::Null => None,
            Json::String(_) => Some(Kind::Text),
            Json::Number(_) => Some(Kind::Number),
            Json::Bool(_) => Some(Kind::Truth),
            Json::Array(_) => Some(Kind::List),
            Json::Object(_) => Some(Kind::Group),
        }
    }

    fn phrase(self) -> &'static str {
        match self {
            Kind::Text => "a text",
            Kind::Number => "a number",
            Kind::Truth => "a yes or no",
            Kind::List => "a list",
            Kind::Group => "a group of fields",
        }
    }

    /// How two of different kinds come together.
    fn way_to(self, other: Kind) -> &'static str {
        match (self, other) {
            (Kind::Text, Kind::Number) | (Kind::Number, Kind::Text) => AS_NUMBER,
            (Kind::Truth, _) | (_, Kind::Truth) => "write `conversation.resolved` or `not conversation.resolved`",
            (Kind::List, _) | (_, Kind::List) => {
                "write `\"vip\" in conversation.labels`, or ask `order.items|length` how many there are"
            }
            _ => "name one of its fields: `order.customer.country`",
        }
    }
}

fn start(expression: &ast::Expr<'_>) -> usize {
    expression.span().start_offset as usize
}

/// What was meant, or what there is.
pub(super) fn suggestion(wrong: &str, known: &[&str]) -> String {
    let near = known.iter().copied().map(|name| (strsim::damerau_levenshtein(wrong, name), name)).min();
    match near {
        Some((distance, name)) if distance <= 2 => format!("did you mean `{name}`?"),
        _ => format!("there are {}", known.join(", ")),
    }
}

//! The template's operators, exchanged for functions of ours that pay for what they do.

use super::budget::{items, refused, spend, spend_deep, spend_shallow};
use super::object::{Ordered, python};
use minijinja::machinery::ast::{BinOp, BinOpKind, Const, Expr, Spanned};
use minijinja::machinery::{Instruction, Instructions, Span};
use minijinja::value::{Rest, ValueKind};
use minijinja::{Environment, Error, State, Value, context};

/// The longest text that a template may make by one operator.
const MAX_TEXT: usize = 16 << 20;

/// The functions' names, which no template can spell.
const BINARY: [(&str, BinOpKind, &str); 11] = [
    ("\0add", BinOpKind::Add, "+"),
    ("\0mul", BinOpKind::Mul, "*"),
    ("\0concat", BinOpKind::Concat, "~"),
    ("\0eq", BinOpKind::Eq, "=="),
    ("\0ne", BinOpKind::Ne, "!="),
    ("\0lt", BinOpKind::Lt, "<"),
    ("\0lte", BinOpKind::Lte, "<="),
    ("\0gt", BinOpKind::Gt, ">"),
    ("\0gte", BinOpKind::Gte, ">="),
    ("\0in", BinOpKind::In, "in"),
    ("\0pow", BinOpKind::Pow, "**"),
];

/// Exchanges the operators of compiled code, and gives the bytes of the longest text that it writes as it stands; says
/// what cannot be exchanged.
pub(super) fn guard(code: &mut Instructions<'static>) -> Result<usize, &'static str> {
    let mut longest = 0;
    let call = |name, arguments| Instruction::CallFunction(name, Some(arguments));
    let mut at = 0;
    while let Some(instruction) = code.get_mut(at) {
        let guarded = match instruction {
            Instruction::Add => call("\0add", 2),
            Instruction::Mul => call("\0mul", 2),
            Instruction::Pow => call("\0pow", 2),
            Instruction::StringConcat => call("\0concat", 2),
            Instruction::Eq => call("\0eq", 2),
            Instruction::Ne => call("\0ne", 2),
            Instruction::Lt => call("\0lt", 2),
            Instruction::Lte => call("\0lte", 2),
            Instruction::Gt => call("\0gt", 2),
            Instruction::Gte => call("\0gte", 2),
            Instruction::In => call("\0in", 2),
            Instruction::GetItem => call("\0item", 2),
            Instruction::Slice => call("\0slice", 4),
            Instruction::BuildMap(pairs) => match u16::try_from(*pairs * 2) {
                Ok(arguments) => call("\0map", arguments),
                Err(_) => return Err("it has an object of more than 32,767 pairs"),
            },
            Instruction::CompareAndPreserve(_) => return Err("it chains comparisons, as in `1 < x < 3`"),
            Instruction::EmitRaw(text) => {
                longest = longest.max(text.len());
                at += 1;
                continue;
            }
            _ => {
                at += 1;
                continue;
            }
        };
        *instruction = guarded;
        at += 1;
    }
    Ok(longest)
}

/// Adds the functions.
pub(super) fn add_to(environment: &mut Environment<'static>) {
    for (name, kind, spelling) in BINARY {
        environment.add_function(name, move |left: &Value, right: &Value| binary(kind, spelling, left, right));
    }
    environment.add_function("\0item", item);
    environment.add_function("\0slice", slice);
    environment.add_function("\0map", |pairs: Rest<Value>| {
        for [key, _] in pairs.as_chunks::<2>().0 {
            require_plain(key)?;
        }
        let pairs = pairs.as_chunks::<2>().0.iter();
        Ok::<_, Error>(match pairs.clone().all(|[key, _]| key.as_str().is_some()) {
            true => Ordered::of(pairs.map(|[key, value]| (key.as_str().unwrap_or_default().into(), value.clone()))),
            false => Value::from_pairs(pairs.map(|[key, value]| (key.clone(), value.clone()))),
        })
    });
}

fn binary(kind: BinOpKind, spelling: &str, left: &Value, right: &Value) -> Result<Value, Error> {
    match kind {
        BinOpKind::Mul => check_product(left, right)?,
        BinOpKind::Add if left.as_str().is_none() => {
            spend_shallow(left)?;
            spend_shallow(right)?;
            items_of_both(left, right)?;
        }
        // In an object the key is looked up.
        BinOpKind::In if right.kind() == ValueKind::Map => require_plain(left)?,
        _ => {
            spend_deep(left)?;
            spend_deep(right)?;
        }
    }
    let operand = |value: &Value| match python(value) {
        Some(word) if matches!(kind, BinOpKind::Concat) => Value::from(word),
        _ => value.clone(),
    };
    let constant = |value| Expr::Const(Spanned::new(Const { value: operand(value) }, Span::default()));
    let operation = BinOp { op: kind, left: constant(left), right: constant(right) };
    let result = Expr::BinOp(Spanned::new(operation, Span::default())).as_const().ok_or_else(|| {
        refused(format!(
            "`{spelling}` is not defined for {} and {}, or its result is out of range",
            left.kind(),
            right.kind()
        ))
    })?;
    match result.as_str() {
        Some(text) if text.len() > MAX_TEXT => Err(refused("the template makes a text of more than 16 MB")),
        _ => Ok(result),
    }
}

fn items_of_both(left: &Value, right: &Value) -> Result<(), Error> {
    match (items(left)?, items(right)?) {
        (a, b) if a + b > 1_000_000 => Err(refused("the template makes a list of more than a million elements")),
        _ => Ok(()),
    }
}

/// Pays for a repeated text or list before it is made.
fn check_product(left: &Value, right: &Value) -> Result<(), Error> {
    let (what, times) = if left.is_number() { (right, left) } else { (left, right) };
    if what.is_number() {
        return spend(1);
    }
    let size = what.as_str().map_or(items(what)? as u64 * 32, |text| text.len() as u64);
    match times.as_usize() {
        Some(times) => match size.saturating_mul(times as u64) {
            units if units > MAX_TEXT as u64 => Err(refused("the template repeats a text or list too often")),
            units => spend(units),
        },
        None => spend(1),
    }
}

/// Keys are texts and numbers: comparing others could take for ever.
fn require_plain(key: &Value) -> Result<(), Error> {
    match key.kind() {
        ValueKind::Seq | ValueKind::Iterable | ValueKind::Map | ValueKind::Plain => {
            Err(refused(format!("a key must be a text or a number, found {}", key.kind())))
        }
        _ => spend_shallow(key),
    }
}

fn item(of: &Value, key: &Value) -> Result<Value, Error> {
    require_plain(key)?;
    if of.as_str().is_some() {
        spend_shallow(of)?;
    }
    of.get_item(key)
}

fn slice(state: &State, of: &Value, start: &Value, stop: &Value, step: &Value) -> Result<Value, Error> {
    spend_shallow(of)?;
    let expression = state.env().compile_expression("of[start:stop:step]")?;
    expression.eval(context! { of, start, stop, step })
}

//! The kept figures, `benches/figures.toml`, and the comparison with those of a run.

use std::{env, fmt::Write, fs, path::PathBuf};

use toml_edit::{DocumentMut, Item, value};

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("figures.toml")
}

/// Compares the figures of a run with the kept ones of that kind; if `BATRUN_RENEW` is set, keeps
/// the run's first. Returns a table; the error is that table too, with the next step.
pub fn compare(kind: &str, seen: &[(&'static str, f64)]) -> Result<String, String> {
    let text = fs::read_to_string(path()).map_err(|error| error.to_string())?;
    let mut kept: DocumentMut = text.parse().map_err(|error| format!("{error}"))?;
    if env::var_os("BATRUN_RENEW").is_some() {
        for (name, seen) in seen {
            // Whole instructions, a thousandth of an allocation.
            let renewed = match field(&kept, kind, name, "kept")?.is_integer() {
                true => value(seen.round() as i64),
                false => value((seen * 1000.0).round() / 1000.0),
            };
            kept[kind][name]["kept"] = renewed;
        }
        fs::write(path(), kept.to_string()).map_err(|error| error.to_string())?;
    }
    table(&kept, kind, seen)
}

fn table(kept: &DocumentMut, kind: &str, seen: &[(&str, f64)]) -> Result<String, String> {
    let head = ["seen", "kept", "tolerance"];
    let mut table = format!("{kind:<14}{:>10}{:>10}{:>11}\n", head[0], head[1], head[2]);
    let mut worse = Vec::new();
    for (name, seen) in seen {
        let figure = number(field(kept, kind, name, "kept")?)?;
        let tolerance = match field(kept, kind, name, "percent") {
            Ok(percent) => figure * number(percent)? / 100.0,
            Err(_) => number(field(kept, kind, name, "tolerance")?)?,
        };
        let digits = if tolerance < 1.0 { 3 } else { 0 };
        let shown = |number: f64| format!("{number:.digits$}");
        let verdict = match seen - figure {
            more if more > tolerance => "WORSE",
            more if more < -tolerance => "better: renew",
            _ => "ok",
        };
        let (seen, figure, tolerance) = (shown(*seen), shown(figure), shown(tolerance));
        writeln!(
            table,
            "  {name:<12}{seen:>10}{figure:>10}{tolerance:>11}  {verdict}"
        )
        .unwrap();
        if verdict == "WORSE" {
            worse.push(format!(
                "{kind}.{name}: seen {seen}, kept {figure} with a tolerance of {tolerance}\n"
            ));
        }
    }
    if worse.is_empty() {
        return Ok(table);
    }
    Err(format!(
        "{table}\n{}What each figure counts is in {}.\n\
         Where more is meant to be done: `benches/guard --renew`, and say in the commit why.\n",
        worse.concat(),
        path().display()
    ))
}

fn field<'a>(
    kept: &'a DocumentMut,
    kind: &str,
    name: &str,
    field: &str,
) -> Result<&'a Item, String> {
    let figure = kept.get(kind).and_then(|kind| kind.get(name));
    let found = figure.and_then(|figure| figure.get(field));
    found.ok_or_else(|| format!("no {kind}.{name}.{field} in {}", path().display()))
}

fn number(item: &Item) -> Result<f64, String> {
    let whole = item.as_integer().map(|number| number as f64);
    let number = item.as_float().or(whole);
    number.ok_or_else(|| format!("not a number: {item}"))
}

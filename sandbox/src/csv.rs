//! People from a file: one row each, columns by name.

use std::fmt;

use crate::people::NewPerson;

/// A file that cannot be read as people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CsvError {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for CsvError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "line {}: {}", self.line, self.message)
    }
}

impl std::error::Error for CsvError {}

/// Reads people from comma-separated text with a header: `given`, `family`, `email`, `phone`, `company`, `city`,
/// `country`, `postcode`, `external_id`, `custom.KEY`; other columns are left out.
pub fn read_people(text: &str) -> Result<Vec<NewPerson>, CsvError> {
    let mut rows = split(text)?.into_iter();
    let Some((_, header)) = rows.next() else {
        return Err(CsvError { line: 1, message: "the file is empty; the first line names the columns".to_owned() });
    };
    let mut people = Vec::new();
    for (line, cells) in rows {
        if cells.len() != header.len() {
            let message = format!("{} cells where the header has {}", cells.len(), header.len());
            return Err(CsvError { line, message });
        }
        let mut person = NewPerson::default();
        for (column, value) in header.iter().zip(cells) {
            let filled = Some(value.trim().to_owned()).filter(|value| !value.is_empty());
            match column.trim() {
                "given" => person.given = filled.unwrap_or_default(),
                "family" => person.family = filled.unwrap_or_default(),
                "email" => person.email = filled,
                "phone" => person.phone = filled,
                "company" => person.company = filled,
                "city" => person.city = filled,
                "country" => person.country = filled,
                "postcode" => person.postcode = filled,
                "external_id" => person.external_id = filled,
                other => {
                    if let (Some(key), Some(value)) = (other.strip_prefix("custom."), filled) {
                        person.custom.insert(key.to_owned(), value);
                    }
                }
            }
        }
        people.push(person);
    }
    Ok(people)
}

/// Rows of cells with the line each begins on; quoted cells may hold commas, line breaks and doubled quotes.
fn split(text: &str) -> Result<Vec<(usize, Vec<String>)>, CsvError> {
    let mut rows = Vec::new();
    let (mut line, mut start) = (1, 1);
    let (mut row, mut cell, mut quoted) = (Vec::new(), String::new(), false);
    let mut characters = text.trim_start_matches('\u{feff}').chars().peekable();
    while let Some(character) = characters.next() {
        if character == '\n' {
            line += 1;
        }
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                cell.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(std::mem::take(&mut cell)),
            '\r' if !quoted => {}
            '\n' if !quoted => {
                row.push(std::mem::take(&mut cell));
                if row.len() > 1 || !row[0].is_empty() {
                    rows.push((start, std::mem::take(&mut row)));
                }
                row.clear();
                start = line;
            }
            other => cell.push(other),
        }
    }
    if quoted {
        return Err(CsvError { line: start, message: "a quote is not closed".to_owned() });
    }
    if !cell.is_empty() || !row.is_empty() {
        row.push(cell);
        rows.push((start, row));
    }
    Ok(rows)
}

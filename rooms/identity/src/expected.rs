//! Lists of devices to expect, as an operator has them: CSV out of a spreadsheet, or JSON.
//!
//! CSV: a header line, then `serial,product[,device][,groups][,manufacturer][,fingerprint]
//! [,client_id][,attribute.NAME]…` in any order of columns; groups separated by `;`; fields may be
//! quoted as in RFC 4180, but not hold a line end. JSON: an array of objects with the same names,
//! `groups` an array and `attributes` an object. All errors are found in one go, each with its
//! line.

use crate::registry::{CLIENT_ID, Fact};
use model::{
    AttributeId, AttributeValue, DeviceId, Digest, GroupId, ManufacturerId, ProductId, SerialNumber,
};
use std::collections::{BTreeMap, HashMap};

/// The most devices in one list.
pub const ROWS_MAX: usize = 1_000_000;
/// The longest line of a CSV list, in bytes.
pub const LINE_BYTES_MAX: usize = 4096;
/// The most groups of a device.
pub const GROUPS_MAX: usize = 64;
/// The most attributes of a device, its client identifier included.
pub const ATTRIBUTES_MAX: usize = 16;
/// Errors beyond these are counted, not listed.
pub const ERRORS_MAX: usize = 100;

/// One device of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedDevice {
    /// `None`: the one named beside the list.
    pub manufacturer: Option<ManufacturerId>,
    pub serial: SerialNumber,
    pub product: ProductId,
    /// As listed, else its serial number.
    pub device: DeviceId,
    /// In order, each once.
    pub groups: Vec<GroupId>,
    /// SHA-256 of the certificate that the device has already: for an existing fleet.
    pub fingerprint: Option<Digest>,
    /// What channel templates may name of it, `client_id` among them; in order, each once.
    pub attributes: Vec<(AttributeId, AttributeValue)>,
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct LineError {
    /// From 1.
    pub line: usize,
    pub message: String,
}

impl ExpectedDevice {
    /// The facts to be committed, in their order. `manufacturer` is for a line that names none;
    /// `shared` says that its certificate is other devices' too.
    #[must_use]
    pub fn into_facts(self, manufacturer: &ManufacturerId, shared: bool) -> Vec<Fact> {
        let mut facts = vec![Fact::DeviceExpected {
            manufacturer: self.manufacturer.unwrap_or_else(|| manufacturer.clone()),
            serial: self.serial,
            device: self.device.clone(),
            product: self.product,
            groups: self.groups,
        }];
        if !self.attributes.is_empty() {
            facts.push(Fact::DeviceDescribed {
                device: self.device.clone(),
                attributes: self.attributes,
            });
        }
        facts.extend(self.fingerprint.map(|fingerprint| Fact::LeafPinned {
            fingerprint,
            device: self.device,
            shared,
        }));
        facts
    }

    /// The line of a CSV list under [`csv_header`].
    #[must_use]
    pub fn csv_line(&self, attributes: &[AttributeId]) -> String {
        let groups: Vec<&str> = self.groups.iter().map(GroupId::as_str).collect();
        let mut fields = vec![
            quoted(self.serial.as_str()),
            self.product.to_string(),
            self.device.to_string(),
            groups.join(";"),
            self.fingerprint
                .map_or_else(String::new, |digest| digest.to_string()),
        ];
        fields.extend(attributes.iter().map(|wanted| {
            (self.attributes.iter())
                .find(|(name, _)| name == wanted)
                .map_or_else(String::new, |(_, value)| quoted(value.as_str()))
        }));
        fields.join(",")
    }
}

/// The header of a CSV list whose devices have these attributes.
#[must_use]
pub fn csv_header(attributes: &[AttributeId]) -> String {
    let named = attributes.iter().map(|name| match name.as_str() {
        CLIENT_ID => CLIENT_ID.to_owned(),
        other => format!("{ATTRIBUTE}{other}"),
    });
    ["serial", "product", "device", "groups", "fingerprint"]
        .map(str::to_owned)
        .into_iter()
        .chain(named)
        .collect::<Vec<_>>()
        .join(",")
}

fn quoted(text: &str) -> String {
    if text.contains([',', '"']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

/// # Errors
/// Every line that is wrong, the first [`ERRORS_MAX`] of them; then nothing is to be imported.
pub fn parse_csv(text: &str) -> Result<Vec<ExpectedDevice>, Vec<LineError>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = text.lines().zip(1..);
    let mut list = List::default();
    let columns = match lines.next().map(|(header, _)| Columns::read(header)) {
        Some(Ok(columns)) => columns,
        Some(Err(message)) => return Err(vec![LineError { line: 1, message }]),
        None => {
            return Err(vec![LineError {
                line: 1,
                message: "the list is empty; begin with a line: serial,product,device,groups"
                    .to_owned(),
            }]);
        }
    };
    for (line, number) in lines {
        if line.trim().is_empty() {
            continue;
        }
        if list.is_over() {
            break;
        }
        list.add(number, columns.row(line).and_then(Row::check));
    }
    list.finish()
}

/// # Errors
/// As [`parse_csv`]; after an error of JSON's syntax nothing more is read.
pub fn parse_json(text: &str) -> Result<Vec<ExpectedDevice>, Vec<LineError>> {
    let mut list = List::default();
    let mut cursor = JsonArray::new(text);
    while !list.is_over() {
        match cursor.next() {
            Ok(Some((line, row))) => list.add(line, row.check()),
            Ok(None) => break,
            Err(error) => {
                list.fail(error);
                break;
            }
        }
    }
    list.finish()
}

/// A row before its names were checked.
#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    serial: String,
    product: String,
    #[serde(default)]
    device: Option<String>,
    #[serde(default)]
    groups: Vec<String>,
    #[serde(default)]
    manufacturer: Option<String>,
    #[serde(default)]
    fingerprint: Option<String>,
    #[serde(default)]
    client_id: Option<String>,
    #[serde(default)]
    attributes: BTreeMap<String, String>,
}

impl Row {
    fn check(mut self) -> Result<ExpectedDevice, String> {
        let said = |error: model::InvalidName| error.to_string();
        if let Some(client_id) = self.client_id.take()
            && self
                .attributes
                .insert(CLIENT_ID.to_owned(), client_id)
                .is_some()
        {
            return Err("client_id stands twice".to_owned());
        }
        if self.attributes.len() > ATTRIBUTES_MAX {
            return Err(format!("more than {ATTRIBUTES_MAX} attributes"));
        }
        let attributes = (self.attributes.iter())
            .map(|(name, value)| {
                let name = AttributeId::new(name).map_err(said)?;
                Ok((name, AttributeValue::new(value).map_err(said)?))
            })
            .collect::<Result<_, String>>()?;
        let fingerprint = (self.fingerprint.as_deref())
            .map(|text| fingerprint(text).ok_or("fingerprint is SHA-256 in 64 hex digits"))
            .transpose()?;
        if self.groups.len() > GROUPS_MAX {
            return Err(format!("more than {GROUPS_MAX} groups"));
        }
        let mut groups: Vec<GroupId> = self
            .groups
            .iter()
            .map(|group| GroupId::new(group).map_err(said))
            .collect::<Result<_, _>>()?;
        groups.sort_unstable();
        groups.dedup();
        let serial = SerialNumber::new(&self.serial).map_err(said)?;
        let device = match &self.device {
            Some(name) => DeviceId::new(name).map_err(said)?,
            None => DeviceId::new(serial.as_str()).map_err(|_| {
                format!(
                    "serial number {:?} cannot serve as the device's name; add a device column \
                     with a name of A-Z a-z 0-9 . _ -",
                    serial.as_str()
                )
            })?,
        };
        Ok(ExpectedDevice {
            manufacturer: self
                .manufacturer
                .map(|name| ManufacturerId::new(&name).map_err(said))
                .transpose()?,
            product: ProductId::new(&self.product).map_err(said)?,
            serial,
            device,
            groups,
            fingerprint,
            attributes,
        })
    }
}

/// 64 hex digits, in pairs with colons between them or without.
fn fingerprint(text: &str) -> Option<Digest> {
    let digits: Vec<u8> = text.bytes().filter(|b| *b != b':').collect();
    if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let mut digest = [0; 32];
    for (to, pair) in digest.iter_mut().zip(digits.chunks(2)) {
        *to = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(Digest(digest))
}

/// What was read so far.
#[derive(Default)]
struct List {
    devices: Vec<ExpectedDevice>,
    by_name: HashMap<DeviceId, usize>,
    by_serial: HashMap<(Option<ManufacturerId>, SerialNumber), usize>,
    errors: Vec<LineError>,
}

impl List {
    fn add(&mut self, line: usize, row: Result<ExpectedDevice, String>) {
        let message = match row {
            Err(message) => message,
            Ok(_) if self.devices.len() >= ROWS_MAX => {
                format!("more than {ROWS_MAX} devices; import the list in parts")
            }
            Ok(device) => {
                let serial = (device.manufacturer.clone(), device.serial.clone());
                if let Some(first) = self.by_serial.get(&serial) {
                    format!(
                        "serial number {:?} is already on line {first}",
                        device.serial.as_str()
                    )
                } else if let Some(first) = self.by_name.get(&device.device) {
                    format!("device {} is already on line {first}", device.device)
                } else {
                    self.by_serial.insert(serial, line);
                    self.by_name.insert(device.device.clone(), line);
                    self.devices.push(device);
                    return;
                }
            }
        };
        self.fail(LineError { line, message });
    }

    fn fail(&mut self, error: LineError) {
        self.errors.push(error);
    }

    fn is_over(&self) -> bool {
        self.errors.len() >= ERRORS_MAX
    }

    fn finish(self) -> Result<Vec<ExpectedDevice>, Vec<LineError>> {
        if self.errors.is_empty() {
            Ok(self.devices)
        } else {
            Err(self.errors)
        }
    }
}

#[derive(Clone, PartialEq, Eq)]
enum Column {
    Serial,
    Product,
    Device,
    Groups,
    Manufacturer,
    Fingerprint,
    ClientId,
    Attribute(String),
}

/// What a column of an attribute begins with.
const ATTRIBUTE: &str = "attribute.";

struct Columns(Vec<Column>);

impl Columns {
    fn read(header: &str) -> Result<Self, String> {
        let mut columns = Vec::new();
        for name in fields(header)? {
            let name = name.trim();
            let column = match name.to_ascii_lowercase().as_str() {
                "serial" => Column::Serial,
                "product" => Column::Product,
                "device" => Column::Device,
                "groups" => Column::Groups,
                "manufacturer" => Column::Manufacturer,
                "fingerprint" => Column::Fingerprint,
                "client_id" => Column::ClientId,
                _ => match name.strip_prefix(ATTRIBUTE).map(AttributeId::new) {
                    Some(Ok(attribute)) => Column::Attribute(attribute.to_string()),
                    _ => {
                        return Err(format!(
                            "column {:?} is not known; use serial, product, device, groups, \
                             manufacturer, fingerprint, client_id, attribute.NAME",
                            name.chars().take(64).collect::<String>()
                        ));
                    }
                },
            };
            if columns.contains(&column) {
                return Err(format!("column {name:?} stands twice"));
            }
            columns.push(column);
        }
        if !columns.contains(&Column::Serial) || !columns.contains(&Column::Product) {
            return Err("the header must name the columns serial and product".to_owned());
        }
        Ok(Self(columns))
    }

    fn row(&self, line: &str) -> Result<Row, String> {
        let fields = fields(line)?;
        if fields.len() != self.0.len() {
            return Err(format!(
                "{} fields, but the header has {}",
                fields.len(),
                self.0.len()
            ));
        }
        let mut row = Row::default();
        for (column, field) in self.0.iter().zip(fields) {
            let given = Some(field.clone()).filter(|field| !field.is_empty());
            match column {
                Column::Serial => row.serial = field,
                Column::Product => row.product = field,
                Column::Device => row.device = given,
                Column::Manufacturer => row.manufacturer = given,
                Column::Fingerprint => row.fingerprint = given,
                Column::ClientId => row.client_id = given,
                Column::Attribute(name) => {
                    row.attributes
                        .extend(given.map(|value| (name.clone(), value)));
                }
                Column::Groups => {
                    row.groups = field
                        .split(';')
                        .map(|group| group.trim().to_owned())
                        .filter(|group| !group.is_empty())
                        .collect();
                }
            }
        }
        Ok(row)
    }
}

/// The fields of a line (RFC 4180): quoted ones may hold commas, and quotes doubled.
fn fields(line: &str) -> Result<Vec<String>, String> {
    if line.len() > LINE_BYTES_MAX {
        return Err(format!("longer than {LINE_BYTES_MAX} bytes"));
    }
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        let (field, tail) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_field(quoted)?,
            None => match rest.split_once(',') {
                Some((field, tail)) => (field.to_owned(), Some(tail)),
                None => (rest.to_owned(), None),
            },
        };
        fields.push(field);
        match tail {
            Some(tail) => rest = tail,
            None => return Ok(fields),
        }
    }
}

/// The field after its opening quote, and what follows the comma, if one does.
fn quoted_field(text: &str) -> Result<(String, Option<&str>), String> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let (part, tail) = rest
            .split_once('"')
            .ok_or("a quoted field does not end on its line")?;
        field.push_str(part);
        if let Some(tail) = tail.strip_prefix('"') {
            field.push('"');
            rest = tail;
        } else if tail.is_empty() {
            return Ok((field, None));
        } else if let Some(tail) = tail.strip_prefix(',') {
            return Ok((field, Some(tail)));
        } else {
            return Err("text after the end of a quoted field".to_owned());
        }
    }
}

/// Walks a JSON array value by value, so that each has its line and a million need no tree.
struct JsonArray<'a> {
    rest: &'a str,
    line: usize,
    state: JsonState,
}

#[derive(PartialEq, Eq)]
enum JsonState {
    Start,
    First,
    Next,
    End,
}

impl<'a> JsonArray<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            rest: text,
            line: 1,
            state: JsonState::Start,
        }
    }

    fn next(&mut self) -> Result<Option<(usize, Row)>, LineError> {
        if self.state == JsonState::Start {
            if !self.take('[') {
                return Err(self.error("the list must be a JSON array of objects"));
            }
            self.state = JsonState::First;
        }
        if self.state == JsonState::End {
            return Ok(None);
        }
        if self.take(']') {
            self.state = JsonState::End;
            self.skip_space();
            return if self.rest.is_empty() {
                Ok(None)
            } else {
                Err(self.error("text after the end of the array"))
            };
        }
        if self.state == JsonState::Next && !self.take(',') {
            return Err(self.error("expected a comma or the end of the array"));
        }
        self.state = JsonState::Next;
        self.skip_space();
        let line = self.line;
        let mut values = serde_json::Deserializer::from_str(self.rest).into_iter::<Row>();
        match values.next() {
            Some(Ok(row)) => {
                let length = values.byte_offset();
                self.advance(length);
                Ok(Some((line, row)))
            }
            Some(Err(error)) => Err(LineError {
                line: line + error.line().saturating_sub(1),
                message: error.to_string(),
            }),
            None => Err(self.error("the array does not end")),
        }
    }

    fn take(&mut self, wanted: char) -> bool {
        self.skip_space();
        let found = self.rest.starts_with(wanted);
        if found {
            self.advance(wanted.len_utf8());
        }
        found
    }

    fn skip_space(&mut self) {
        let after = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
        self.advance(self.rest.len() - after.len());
    }

    fn advance(&mut self, bytes: usize) {
        let (passed, rest) = self.rest.split_at_checked(bytes).unwrap_or((self.rest, ""));
        self.line += passed.matches('\n').count();
        self.rest = rest;
    }

    fn error(&self, message: &str) -> LineError {
        LineError {
            line: self.line,
            message: message.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(errors: Result<Vec<ExpectedDevice>, Vec<LineError>>) -> Vec<usize> {
        errors.unwrap_err().iter().map(|error| error.line).collect()
    }

    #[test]
    fn csv_and_json_say_the_same() {
        let csv = "\u{feff}Product,serial,device,groups,manufacturer\r\n\
                   camera,SN1,,east; west;east,\r\n\
                   \r\n\
                   \"camera\",\"SN \"\"2\"\", b\",dev-2,,maker\r\n";
        let json = r#"[
            {"serial": "SN1", "product": "camera", "groups": ["west", "east"]},
            {"serial": "SN \"2\", b", "product": "camera", "device": "dev-2", "manufacturer": "maker"}
        ]"#;
        let read = parse_csv(csv).unwrap();
        assert_eq!(read, parse_json(json).unwrap());
        let [first, second] = read.as_slice() else {
            panic!("{read:?}")
        };
        assert_eq!(first.device.as_str(), "SN1");
        assert_eq!(first.groups.len(), 2);
        assert_eq!(second.serial.as_str(), "SN \"2\", b");
        let maker = ManufacturerId::new("other").unwrap();
        assert!(matches!(
            second.clone().into_facts(&maker, false).as_slice(),
            [Fact::DeviceExpected { manufacturer, .. }] if manufacturer.as_str() == "maker"
        ));
    }

    #[test]
    fn every_wrong_line_is_told() {
        let csv =
            "serial,product\nSN1,camera\nSN1,camera\nSN 3,camera\n,camera\nSN5\nSN6,\"x\nSN7,a b\n";
        assert_eq!(lines(parse_csv(csv)), [3, 4, 5, 6, 7, 8]);
        let message = &parse_csv(csv).unwrap_err()[0].message;
        assert!(message.contains("already on line 2"), "{message}");
        let twice = "serial,product,device\nA,camera,x\nB,camera,x\n";
        assert_eq!(lines(parse_csv(twice)), [3]);
        let long = format!("serial,product\nSN1,{}\n", "x".repeat(5000));
        assert_eq!(lines(parse_csv(&long)), [2]);
        for header in [
            "",
            "serial",
            "serial,product,colour",
            "serial,serial,product",
        ] {
            assert_eq!(lines(parse_csv(header)), [1], "{header:?}");
        }
        let many = format!("serial,product\n{}", "?\n".repeat(500));
        assert_eq!(lines(parse_csv(&many)).len(), ERRORS_MAX);
    }

    #[test]
    fn json_errors_have_their_lines() {
        let row = r#"{"serial": "SN1", "product": "camera"}"#;
        for (text, line) in [
            (format!("[\n{row},\n{row}]"), 3),
            (format!("[\n{row}\n{row}]"), 3),
            (format!("[{row},\n]"), 2),
            (format!("[{row}]\nx"), 2),
            (format!("[\n{row}"), 2),
            ("\n{}".to_owned(), 2),
            (String::new(), 1),
            ("[\n{\"serial\": \"S\",\n\"product\": 1}]".to_owned(), 3),
            (
                "[{\"serial\": \"S\", \"product\": \"p\", \"x\": 1}]".to_owned(),
                1,
            ),
            ("[[[[".to_owned(), 1),
        ] {
            assert_eq!(lines(parse_json(&text)), [line], "{text}");
        }
        assert_eq!(parse_json(" [ ] ").unwrap(), []);
    }

    #[test]
    fn the_same_serial_of_two_manufacturers_is_two_devices() {
        let csv = "serial,product,device,manufacturer\nS,p,a,m1\nS,p,b,m2\n";
        assert_eq!(parse_csv(csv).unwrap().len(), 2);
    }

    #[test]
    fn an_existing_fleets_list_is_read_as_it_is_written() {
        let digest = "ab".repeat(32);
        let csv = format!(
            "serial,product,fingerprint,client_id,attribute.site\n\
             \"a, b\",p,{digest},urn:dev:1,north\nc,p,,,\n"
        );
        let json = format!(
            r#"[{{"serial": "a, b", "product": "p", "device": "a", "fingerprint": "{digest}",
                 "client_id": "urn:dev:1", "attributes": {{"site": "north"}}}}]"#
        );
        assert_eq!(
            lines(parse_csv(&csv)),
            [2],
            "its serial number is no device name"
        );
        let read = parse_json(&json).unwrap();
        let names: Vec<AttributeId> = ["client_id", "site"].map(|n| n.parse().unwrap()).to_vec();
        let written = format!("{}\n{}\n", csv_header(&names), read[0].csv_line(&names));
        assert_eq!(parse_csv(&written).unwrap(), read, "{written}");
        for wrong in [
            "serial,product,fingerprint\nA,p,abcd\n",
            "serial,product,client_id\nA,p,a/b\n",
            "serial,product,client_id\nA,p,a b\n",
            "serial,product,attribute.site\nA,p,a+b\n",
        ] {
            assert_eq!(lines(parse_csv(wrong)), [2], "{wrong}");
        }
        for header in ["serial,product,attribute.", "serial,product,attribute.a/b"] {
            assert_eq!(lines(parse_csv(header)), [1], "{header}");
        }
    }
}

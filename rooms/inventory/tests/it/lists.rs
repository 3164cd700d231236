//! Lists of devices in and out.

use crate::{day, device, inventory};
use inventory::{Import, Inventory, List, Seen, export, export_header};

fn import(inventory: &Inventory, text: &str) -> Import {
    inventory.import(&List::read(text).unwrap())
}

fn take(inventory: &mut Inventory, import: Import) {
    for (device, record) in import.records {
        inventory.record(&device, record);
    }
}

fn text_of(inventory: &Inventory) -> String {
    let mut text = export_header();
    export(&mut text, &inventory.devices_after(None, 1000, day(0)));
    text
}

#[test]
fn a_list_is_taken_line_by_line_and_says_what_it_did() {
    let mut inventory = inventory(&["cam-1", "cam-2"]);
    let text = "device;product;country;support_until;lifecycle;note\r\n\
                cam-1;camera;de;2031-12-31;;north gate\r\n\
                cam-2;lock;FR;;;\r\n\
                new-1;lock;FR;2029-06-30;retired;\"a; b\"\r\n\
                new-1;lock;FR;;;\r\n\
                ../etc;lock;FR;;;\r\n\
                new-2;lock;France;;;\r\n\
                new-3;lock;FR;31.12.2031;;\r\n\
                new-4;lock;FR;;sleeping;\r\n";
    let done = import(&inventory, text);
    assert_eq!(
        (done.rows, done.added, done.changed, done.unchanged),
        (8, 1, 1, 0)
    );
    let lines: Vec<usize> = done.refused.iter().map(|error| error.line).collect();
    assert_eq!(lines, [3, 5, 6, 7, 8, 9]);
    assert!(
        done.refused[0]
            .text
            .contains("its identity says product camera")
    );
    take(&mut inventory, done);
    let new = inventory.device(&device("new-1"), day(0)).unwrap();
    assert_eq!(new.lifecycle.name(), "retired");
    assert_eq!(new.product.unwrap().as_str(), "lock");
    let cam = inventory.device(&device("cam-1"), day(0)).unwrap();
    assert_eq!(cam.country.as_deref(), Some("DE"));
    assert_eq!(cam.product.unwrap().as_str(), "camera");
    // The same again changes nothing.
    let again = import(&inventory, text);
    assert_eq!((again.added, again.changed, again.unchanged), (0, 0, 2));
    // An absent column keeps, an empty cell clears.
    let done = import(&inventory, "device,country\ncam-1,\n");
    take(&mut inventory, done);
    let cam = inventory.device(&device("cam-1"), day(0)).unwrap();
    assert_eq!(
        (cam.country, cam.note.as_deref()),
        (None, Some("north gate"))
    );
}

#[test]
fn a_list_that_cannot_be_read_is_refused_whole() {
    for (text, part) in [
        ("", "empty"),
        ("serial,product\n1,2\n", "column device is missing"),
        ("device,colour\ncam-1,red\n", "no column \"colour\""),
        ("device,device\n", "twice"),
        ("device,\u{1b}[2J\n", "\\u{1b}"),
    ] {
        let error = List::read(text).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
        assert!(!error.contains('\u{1b}'));
    }
}

#[test]
fn an_export_can_be_edited_and_taken_back() {
    let mut inventory = inventory(&["cam-1", "cam-2"]);
    let done = import(
        &inventory,
        "device,note,country\ncam-1,=1+1,SE\nnew-1,-x,NO\n",
    );
    take(&mut inventory, done);
    let address = "10.1.2.3".parse().unwrap();
    inventory.learn(&crate::sighting(
        "cam-2",
        day(0),
        Seen::Connected { address },
    ));
    let text = text_of(&inventory);
    assert_eq!(import(&inventory, &text).unchanged, 3, "{text}");
    let done = import(&inventory, &text.replace(",SE,", ",FI,"));
    assert_eq!((done.changed, done.unchanged), (1, 2), "{:?}", done.refused);
    assert_eq!(done.records[0].1.note.as_deref(), Some("=1+1"));
}

#[test]
fn a_formula_from_a_device_or_a_list_does_nothing_in_a_spreadsheet() {
    let mut inventory = inventory(&["cam-1"]);
    let version = "=HYPERLINK(\"http://evil\",\"x\")".to_owned();
    let seen = Seen::Firmware {
        version,
        digest: None,
    };
    inventory.learn(&crate::sighting("cam-1", day(0), seen));
    let done = import(
        &inventory,
        "device,note\nnew-1,\"@SUM(1)\u{1b}[31m\"\nnew-2,\"\t=2\"\n",
    );
    take(&mut inventory, done);
    let text = text_of(&inventory);
    assert!(
        text.contains("\"'=HYPERLINK(\"\"http://evil\"\",\"\"x\"\")\""),
        "{text}"
    );
    assert!(text.contains("\"'@SUM(1)\\u{1b}[31m\""), "{text}");
    for c in text.chars() {
        assert!(c == '\r' || c == '\n' || !c.is_control(), "{c:?}");
    }
    for cell in text.split(['\n', ',']) {
        let cell = cell.trim_start_matches('"');
        assert!(
            !cell.starts_with(['=', '+', '-', '@', '\t', '\r']) || cell == "\r",
            "{cell:?}"
        );
    }
}

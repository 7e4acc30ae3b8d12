use serde_json::json;

use super::*;

const LANGUAGES: [&str; 6] = ["de", "en", "es", "fr", "pt", "sv"];

fn reader(language: &str) -> Reader {
    Reader { language: Some(language.to_owned()), ..Reader::default() }
}

fn order(value: serde_json::Value) -> Subject {
    serde_json::from_value(json!({ "order": value })).expect("an order")
}

fn render(name: &str, subject: &Subject, language: &str) -> String {
    Templates::shipped().render(name, subject, &reader(language)).expect("a message").text
}

fn own(name: &str, text: &str) -> (Templates, Vec<Diagnostic>) {
    Templates::with(vec![(name.to_owned(), text.to_owned())])
}

/// Line, column and message of each mistake in the text of a file for `order.paid`; its first line is line 3.
fn mistakes(text: &str) -> Vec<(usize, usize, String)> {
    check(&format!("event = \"order.paid\"\n---\n{text}"), "own.en.txt")
        .into_iter()
        .map(|wrong| (wrong.line, wrong.column, wrong.message))
        .collect()
}

#[test]
fn every_shipped_text_checks_clean_and_says_something_for_every_event() {
    for (name, language, text) in shipped::TEXTS {
        assert_eq!(check(text, name), [], "{name}.{language}");
    }
    let shipped = Templates::shipped();
    assert_eq!(shipped.entries().count(), 6);
    for entry in shipped.entries() {
        let languages: Vec<&str> = entry.languages.iter().map(|(language, _)| *language).collect();
        assert_eq!(languages, LANGUAGES, "{}", entry.name);
        for language in LANGUAGES {
            let mut texts = BTreeSet::new();
            for subject in [fields::full(entry.event.topic()), fields::minimal(entry.event.topic())] {
                let text = render(entry.name, &subject, language);
                let odd = ["none", "None", "undefined", "{", "}", "  ", " \n", "\n\n\n", " .", " ,"];
                assert!(!odd.iter().any(|odd| text.contains(odd)), "{} {language}: {text}", entry.name);
                texts.insert(text);
            }
            assert_eq!(texts.len(), 2, "{} {language} says the same of both", entry.name);
        }
    }
    let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/mappings/messages")).expect("the folder");
    assert_eq!(folder.count(), shipped::TEXTS.len(), "a file in mappings/messages is not in the list");
}

#[test]
fn english() {
    let full = fields::full(Topic::Order);
    let text = "Hi Anna,\n\nThank you for your order 1007! We have received it and are getting everything ready.\n\n\
        - 2 × Stoneware mug\n- 1 × Teapot\n\nTotal: €1,234.50\nYou can look at it here: https://shop.example/orders/1007\n\n\
        Any questions? Just reply to this message.";
    assert_eq!(render("order-confirmation", &full, "en"), text);
    let text = "Hi,\n\nThank you for your order 7! We have received it and are getting everything ready.\n\n\
        Any questions? Just reply to this message.";
    assert_eq!(render("order-confirmation", &fields::minimal(Topic::Order), "en"), text);
    let text = "Hi,\n\nGood news: a parcel is on its way.";
    assert_eq!(render("shipped", &fields::minimal(Topic::Shipment), "en"), text);
}

#[test]
fn german() {
    let text = "Hallo Anna,\n\ngute Nachrichten: Ein Paket zu Ihrer Bestellung 1007 ist unterwegs mit DHL.\n\n\
        Sendungsnummer: JD014600006281230704\n\
        Hier können Sie es verfolgen: https://track.example/JD014600006281230704\n\n\
        Darin: 2 verschiedene Artikel:\n- 2 × Stoneware mug\n- 1 × Teapot";
    assert_eq!(render("shipped", &fields::full(Topic::Shipment), "de"), text);
}

#[test]
fn spanish() {
    let text = "¡Hola, Anna!\n\nHemos hecho un reembolso de tu pedido 1007: 49,00\u{a0}€ en total hasta ahora.\n\
        El dinero puede tardar unos días en llegar a tu cuenta.\n\n¿Tienes alguna pregunta? Responde a este mensaje.";
    assert_eq!(render("order-refunded", &fields::full(Topic::Order), "es"), text);
}

#[test]
fn french() {
    let text = "Bonjour Anna,\n\nNous avons bien reçu votre paiement de 1\u{202f}234,50\u{a0}€ pour la commande 1007. \
        Merci\u{a0}!\n\nNous vous écrirons dès qu’il y aura du nouveau.";
    assert_eq!(render("payment-received", &fields::full(Topic::Order), "fr"), text);
}

#[test]
fn portuguese() {
    let text = "Olá, Anna!\n\nO seu pacote do pedido 1007 foi entregue em 7 de março de 2026. Aproveite!\n\n\
        Se faltar alguma coisa ou algo não estiver certo, é só responder a esta mensagem.";
    assert_eq!(render("delivered", &fields::full(Topic::Shipment), "pt"), text);
}

#[test]
fn swedish() {
    let text = "Hej Anna!\n\nDin beställning 1007 har avbokats.\n\n\
        Om du inte hade väntat dig det, svara bara på det här meddelandet så tittar vi på det.";
    assert_eq!(render("order-cancelled", &fields::full(Topic::Order), "sv"), text);
}

#[test]
fn the_language_is_the_persons_else_the_connections_else_english() {
    let shipped = Templates::shipped();
    let language = |own: Option<&str>, fallback: Option<&str>| {
        let [language, fallback_language] = [own, fallback].map(|tag| tag.map(str::to_owned));
        let reader = Reader { language, fallback_language, ..Reader::default() };
        let subject = order(json!({ "number": "1", "total": "1234.5", "currency": "EUR" }));
        shipped.render("order-confirmation", &subject, &reader).expect("a message")
    };
    assert_eq!(language(Some("sv"), Some("de")).language, "sv");
    assert_eq!(language(Some("ja"), Some("de")).language, "de");
    assert_eq!(language(None, Some("de")).language, "de");
    assert_eq!(language(Some("not a tag"), None).language, "en");
    assert_eq!(language(None, None).language, "en");
    assert_eq!(language(Some("zh-Hant-TW"), None).language, "en");
    let austrian = language(Some("de_AT"), Some("en"));
    assert_eq!(austrian.language, "de");
    assert!(austrian.text.contains("€\u{a0}1"), "{}", austrian.text);
    // A language nobody wrote for is not mixed into an English text.
    assert!(language(Some("ja"), None).text.contains("€1,234.50"));
}

#[test]
fn a_text_in_one_language_reaches_everybody() {
    let (templates, wrong) = own("/m/hello.nl.txt", "event = \"ticket.closed\"\n---\nDag!\n");
    assert_eq!(wrong, []);
    let message = templates.render("hello", &fields::minimal(Topic::Ticket), &reader("en")).expect("a message");
    assert_eq!((message.text.as_str(), message.language.as_str()), ("Dag!", "nl"));
}

#[test]
fn times_are_the_readers() {
    let (templates, wrong) = own(
        "when.en-GB.txt",
        "event = \"order.paid\"\n---\n{% if order.placed_at %}{{ order.placed_at | datetime }}, \
         {{ order.placed_at | datetime(\"Asia/Tokyo\") }}{% else %}-{% endif %}",
    );
    assert_eq!(wrong, []);
    let subject = fields::full(Topic::Order);
    let text = |timezone: Option<&str>, fallback: Option<&str>| {
        let [timezone, fallback_timezone] = [timezone, fallback].map(|zone| zone.map(str::to_owned));
        let reader = Reader { timezone, fallback_timezone, ..reader("en-GB") };
        templates.render("when", &subject, &reader).expect("a message").text
    };
    assert_eq!(text(Some("Europe/Stockholm"), None), "4 March 2026 at 10:15, 4 March 2026 at 18:15");
    assert_eq!(text(Some("Mars/Base"), Some("America/New_York")), "4 March 2026 at 04:15, 4 March 2026 at 18:15");
    assert_eq!(text(None, None), "4 March 2026 at 09:15 UTC, 4 March 2026 at 18:15");
}

#[test]
fn unknown_names_are_found_where_they_stand() {
    assert_eq!(mistakes("Hi {{ custmer.name }}"), [(3, 7, "`order.paid` does not offer `custmer`".to_owned())]);
    assert_eq!(
        mistakes("Hi\n{% if order.customr.name %}é{{ order.nmber }}{% endif %}\n"),
        [(4, 13, "there is no field `customr`".to_owned()), (4, 38, "there is no field `nmber`".to_owned())]
    );
    // Also where no example would get to.
    let text = "{% for item in order.items %}{% if loop.index > 9 %}{{ item.nme }}{% endif %}{% endfor %}.";
    assert_eq!(mistakes(text), [(3, 61, "there is no field `nme`".to_owned())]);
    assert_eq!(mistakes("{{ order['totl'] }}"), [(3, 10, "there is no field `totl`".to_owned())]);
    assert_eq!(mistakes("{{ order.number.first }}"), [(3, 17, "a single value has no field `first`".to_owned())]);
    assert_eq!(mistakes("{{ order.items.name }}")[0].2, "a list has no field `name`");
    assert_eq!(mistakes("{{ order.number | mony }}"), [(3, 19, "there is no filter `mony`".to_owned())]);
    let help = check("event = \"order.paid\"\n---\n{{ order.totl }}", "x").remove(0).help;
    assert_eq!(help, "did you mean `total`?");
}

#[test]
fn places_are_right_behind_tags_that_end_a_line() {
    let text = "{% if order.url %}a{% endif %}\n{% if order.url %}b{% endif %}\n{{ ordr.id }}";
    assert_eq!(mistakes(text), [(5, 4, "`order.paid` does not offer `ordr`".to_owned())]);
}

#[test]
fn values_that_may_be_missing_are_asked_for() {
    assert_eq!(mistakes("Hi {{ order.customer.name }}"), [(3, 7, "`order.customer.name` may be missing".to_owned())]);
    assert_eq!(mistakes("{{ order.total | money(order.currency) }}").len(), 1);
    let other_field = "Hi{% if order.url %} {{ order.note }}{% endif %}";
    assert_eq!(mistakes(other_field), [(3, 25, "`order.note` may be missing".to_owned())]);
    assert_eq!(mistakes("Hi{% for item in order.items %} {{ item.sku }}{% endfor %}").len(), 1);
    assert_eq!(
        mistakes("{{ order.note | default(\"-\") }} {{ order.total | money(order.currency) | default(\"?\") }}"),
        []
    );
    assert_eq!(mistakes("{% if order.url %}{{ order.url }}{% endif %}").len(), 1, "nothing is left without it");
}

#[test]
fn mistakes_of_every_kind_have_a_place() {
    let place = |text: &str| mistakes(text).first().map(|(line, column, _)| (*line, *column));
    for (text, line) in [
        ("{{ order.number", 3),
        ("Hi\n{% if order.url %}", 4),
        ("Hi\n{% endif %}", 4),
        ("{{ }}", 3),
        ("\n\n{{ order.number | date }}", 5),
        ("\n{{ order.placed_at | default(0) | datetime(\"Mars/Base\") }}", 4),
        ("\n{{ order.items | length | plural(one=\"#\") }}", 4),
        ("\n{{ order.items | length | plural(won=\"#\", other=\"#\") }}", 4),
        ("\n{{ order.items }}", 4),
        ("\n{% for a in order.number %}{% endfor %}.", 4),
        ("\n{{ order.number is defined }}", 4),
        ("\n{{ order.id ~ order.number }}", 4),
        ("\n{{ 7 * 7 }}", 4),
        ("\n{{ order.number.upper() }}", 4),
        ("\n{{ range(9) }}", 4),
        ("\n{% include \"secrets\" %}", 4),
        ("\n{% macro a() %}{% endmacro %}", 4),
        ("\n{% filter money %}{% endfilter %}", 4),
        ("\n{% set a %}b{% endset %}", 4),
        ("\n{% autoescape true %}{% endautoescape %}", 4),
        ("\n{{ order[order.id] }}", 4),
    ] {
        assert_eq!(place(text).map(|(line, _)| line), Some(line), "{text}: {:?}", mistakes(text));
    }
}

#[test]
fn what_a_text_may_do_it_can_do() {
    for text in [
        "{% if order.status in [\"paid\", \"completed\"] %}a{% else %}b{% endif %}",
        "{% if order.status == \"paid\" and not order.url %}a{% else %}b{% endif %}.",
        "{% for item in order.items[:1] %}{{ loop.index }}{{ item.name }}{% if not loop.last %}, {% endif %}{% else %}-{% endfor %}.",
        "{% with n = order.number %}{{ n }}{% endwith %}{# remark #}",
        "{{ order.note if order.note else order.number }}",
        "{{ order.items | length | number }}",
    ] {
        assert_eq!(mistakes(text), [], "{text}");
    }
}

#[test]
fn heads_are_checked() {
    let first = |text: &str| {
        let wrong = check(text, "x").into_iter().next().expect("a mistake");
        (wrong.line, wrong.column, wrong.message)
    };
    assert_eq!(first("Hi"), (1, 1, "the file does not say which event it is for".to_owned()));
    assert_eq!(first("event = \"order.eaten\"\n---\nHi"), (1, 9, "there is no event `order.eaten`".to_owned()));
    assert_eq!(first("event = 7\n---\nHi").0, 1);
    assert_eq!(first("event = \"order.paid\"\nsubject = \"Hi\"\n---\nHi").0, 2);
    assert_eq!(first(&format!("event = \"order.paid\"\n---\n{}", "x".repeat(4097))).2, "the text is 4097 bytes long");
    assert_eq!(check("\u{feff}event = \"order.paid\"\r\n---\r\nHi\r\n", "x"), []);
}

#[test]
fn a_text_that_goes_on_for_ever_is_stopped() {
    let loops = "{% for a in order.items %}".repeat(30);
    let ends = "{% endfor %}".repeat(30);
    let (line, _, message) = mistakes(&format!(".{loops}{ends}")).remove(0);
    assert_eq!((line, message.as_str()), (3, "this takes too long"));
    let loops = "{% for a in order.items %}".repeat(13);
    let ends = "{% endfor %}".repeat(13);
    let (_, _, message) = mistakes(&format!("{loops}{}{ends}", "0123456789".repeat(300))).remove(0);
    assert_eq!(message, "the message is longer than 65536 bytes");
    // What fuel does not count cannot be written: each of these would take all memory there is.
    let doubled = "{% set a = a ~ a %}".repeat(100);
    assert!(!mistakes(&format!("{{% set a = order.number %}}{doubled}{{{{ a }}}}")).is_empty());
    assert!(!mistakes("{{ \"x\" * 1000000000000 }}").is_empty());
    let nested = "{% set a = [a, a] %}".repeat(100);
    assert!(!mistakes(&format!("{{% set a = order.number %}}{nested}{{{{ a == a }}}}")).is_empty());
    assert!(
        !mistakes(&"(".repeat(4000)).is_empty() || !mistakes(&format!("{{{{ {} }}}}", "(".repeat(4000))).is_empty()
    );
}

#[test]
fn an_event_that_is_too_long_makes_no_message() {
    let subject = order(json!({ "number": "9".repeat(70_000) }));
    let wrong = Templates::shipped().render("order-cancelled", &subject, &reader("en")).expect_err("too long");
    assert_eq!(
        wrong.to_string(),
        "mappings/messages/order-cancelled.en.txt:3:1: the message is longer than 65536 bytes"
    );
    let item = json!({ "name": "Nail", "quantity": "1" });
    let subject = order(json!({ "number": "1", "items": vec![item; 1000] }));
    assert!(render("order-confirmation", &subject, "en").lines().count() > 1000);
}

#[test]
fn hostile_values_stay_values() {
    let subject = order(json!({
        "number": "1\u{2028}2",
        "total": "12.00",
        "currency": "EUR",
        "url": "javascript:alert(1)",
        "customer": { "given_name": "Eve\r\n\r\nTotal: €0.00 {{ order.total }} {% raw %}\u{202e}<b>&\u{0}" },
    }));
    let text = render("order-confirmation", &subject, "en");
    let first = "Hi Eve    Total: €0.00 {{ order.total }} {% raw %}<b>&,\n\nThank you for your order 1 2!";
    assert!(text.starts_with(first), "{text}");
    assert!(!text.contains("javascript"));
    assert_eq!(text.matches("\nTotal:").count(), 1);
}

#[test]
fn odd_amounts_stop_the_message_with_its_place() {
    let subject = order(json!({ "number": "1", "total": "1e99999", "currency": "EUR" }));
    let wrong = Templates::shipped().render("payment-received", &subject, &reader("en")).expect_err("no amount");
    let MessageError::Failed(wrong) = wrong else { panic!("{wrong}") };
    assert_eq!((wrong.line, wrong.message.as_str()), (7, "`1e99999` in `EUR` is no amount"));
    assert!(render("payment-received", &order(json!({ "number": "1", "total": "5" })), "en").contains("of 5 for"));
}

#[test]
fn events_that_do_not_fit_are_refused() {
    let shipped = Templates::shipped();
    assert_eq!(shipped.fits("shipped", EventKind::ShipmentUpdated), Ok(()));
    assert!(matches!(shipped.fits("shipped", EventKind::OrderPaid), Err(MessageError::WrongEvent { .. })));
    let wrong = shipped.render("shipped", &fields::full(Topic::Order), &reader("en"));
    assert!(matches!(wrong, Err(MessageError::WrongEvent { .. })));
    let wrong = shipped.render("shiped", &fields::full(Topic::Order), &reader("en")).expect_err("no template");
    assert!(wrong.to_string().ends_with("shipped"), "{wrong}");
}

#[test]
fn own_files_come_over_the_shipped_ones() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("written");
    write("shipped.de.txt", "event = \"shipment.created\"\n---\nUnterwegs!\n");
    write("thanks.en.txt", "event = \"order.paid\"\n---\nThanks for {{ order.number }}.\n");
    write("README.md", "not a message");
    let templates = Templates::load(Some(folder.path())).expect("templates");
    let text = |name: &str, topic, language: &str| {
        templates.render(name, &fields::full(topic), &reader(language)).expect("a message").text
    };
    assert_eq!(text("shipped", Topic::Shipment, "de"), "Unterwegs!");
    assert!(text("shipped", Topic::Shipment, "en").starts_with("Hi Anna"));
    assert_eq!(text("thanks", Topic::Order, "sv"), "Thanks for 1007.");
    let entry = templates.get("shipped").expect("it is there");
    assert_eq!(entry.languages[..2], [("de", Origin::Own), ("en", Origin::Shipped)]);

    write("delivered.de.txt", "event = \"order.paid\"\n---\nHi\n");
    write("Thanks.txt", "event = \"order.paid\"\n---\nHi\n");
    write("thanks.de.txt", "event = \"order.paid\"\n---\n{{ order.nr }}\n");
    std::fs::write(folder.path().join("thanks.fr.txt"), [0xff, 0xfe]).expect("written");
    let wrong = Templates::load(Some(folder.path())).expect_err("mistakes");
    let files: BTreeSet<&str> = wrong.iter().filter_map(|wrong| wrong.file.rsplit('/').next()).collect();
    assert_eq!(files, BTreeSet::from(["Thanks.txt", "delivered.de.txt", "thanks.de.txt", "thanks.fr.txt"]));
    assert_eq!(Templates::load(Some(Path::new("/nowhere"))).map(|all| all.entries().count()), Ok(6));
}

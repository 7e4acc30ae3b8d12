//! Countries: ISO 3166-1 alpha-2, with the English names that forms write out.

use std::collections::HashMap;
use std::sync::LazyLock;

/// ISO 3166 alpha-2 from a code or an English name. `UK` and `EL`, as the European Union writes them, are `GB` and `GR`.
pub fn country(raw: &str) -> Option<String> {
    let trimmed = raw.trim();
    if let [first, second] = trimmed.as_bytes() {
        let code = [first.to_ascii_uppercase(), second.to_ascii_uppercase()];
        let code = match &code {
            b"UK" => "GB",
            b"EL" => "GR",
            other => std::str::from_utf8(other).ok().filter(|code| is_code(code))?,
        };
        return Some(code.to_owned());
    }
    NAMES.get(&folded(&super::spaces(trimmed))).map(|code| (*code).to_owned())
}

/// The English name of a country code.
pub fn country_name(code: &str) -> Option<&'static str> {
    COUNTRIES.binary_search_by_key(&code, |(code, _)| code).ok().map(|at| COUNTRIES[at].1)
}

/// Whether a text is the code of a country, in its one normal form.
pub(super) fn is_code(text: &str) -> bool {
    match text.as_bytes() {
        [first @ b'A'..=b'Z', second @ b'A'..=b'Z'] => IS_CODE[place(*first, *second)],
        _ => false,
    }
}

const fn place(first: u8, second: u8) -> usize {
    (first - b'A') as usize * 26 + (second - b'A') as usize
}

/// The codes once more, for asking about one without a search: it is asked for every country of every merge.
static IS_CODE: [bool; 26 * 26] = {
    let mut known = [false; 26 * 26];
    let mut at = 0;
    while at < COUNTRIES.len() {
        let code = COUNTRIES[at].0.as_bytes();
        known[place(code[0], code[1])] = true;
        at += 1;
    }
    known
};

/// For finding a name: without upper case, and with `and` written out.
fn folded(name: &str) -> String {
    name.to_lowercase().replace(" & ", " and ").replace("st. ", "saint ")
}

static NAMES: LazyLock<HashMap<String, &'static str>> =
    LazyLock::new(|| COUNTRIES.iter().chain(OTHER_NAMES).map(|(code, name)| (folded(name), *code)).collect());

/// The 249 codes of ISO 3166-1, and Kosovo: its `XK` is left to users by ISO and used by the European Union, Unicode and
/// payment and shop systems. Sorted by code.
const COUNTRIES: &[(&str, &str)] = &[
    ("AD", "Andorra"),
    ("AE", "United Arab Emirates"),
    ("AF", "Afghanistan"),
    ("AG", "Antigua and Barbuda"),
    ("AI", "Anguilla"),
    ("AL", "Albania"),
    ("AM", "Armenia"),
    ("AO", "Angola"),
    ("AQ", "Antarctica"),
    ("AR", "Argentina"),
    ("AS", "American Samoa"),
    ("AT", "Austria"),
    ("AU", "Australia"),
    ("AW", "Aruba"),
    ("AX", "Åland Islands"),
    ("AZ", "Azerbaijan"),
    ("BA", "Bosnia and Herzegovina"),
    ("BB", "Barbados"),
    ("BD", "Bangladesh"),
    ("BE", "Belgium"),
    ("BF", "Burkina Faso"),
    ("BG", "Bulgaria"),
    ("BH", "Bahrain"),
    ("BI", "Burundi"),
    ("BJ", "Benin"),
    ("BL", "Saint Barthélemy"),
    ("BM", "Bermuda"),
    ("BN", "Brunei"),
    ("BO", "Bolivia"),
    ("BQ", "Bonaire, Sint Eustatius and Saba"),
    ("BR", "Brazil"),
    ("BS", "Bahamas"),
    ("BT", "Bhutan"),
    ("BV", "Bouvet Island"),
    ("BW", "Botswana"),
    ("BY", "Belarus"),
    ("BZ", "Belize"),
    ("CA", "Canada"),
    ("CC", "Cocos Islands"),
    ("CD", "Democratic Republic of the Congo"),
    ("CF", "Central African Republic"),
    ("CG", "Republic of the Congo"),
    ("CH", "Switzerland"),
    ("CI", "Côte d'Ivoire"),
    ("CK", "Cook Islands"),
    ("CL", "Chile"),
    ("CM", "Cameroon"),
    ("CN", "China"),
    ("CO", "Colombia"),
    ("CR", "Costa Rica"),
    ("CU", "Cuba"),
    ("CV", "Cape Verde"),
    ("CW", "Curaçao"),
    ("CX", "Christmas Island"),
    ("CY", "Cyprus"),
    ("CZ", "Czech Republic"),
    ("DE", "Germany"),
    ("DJ", "Djibouti"),
    ("DK", "Denmark"),
    ("DM", "Dominica"),
    ("DO", "Dominican Republic"),
    ("DZ", "Algeria"),
    ("EC", "Ecuador"),
    ("EE", "Estonia"),
    ("EG", "Egypt"),
    ("EH", "Western Sahara"),
    ("ER", "Eritrea"),
    ("ES", "Spain"),
    ("ET", "Ethiopia"),
    ("FI", "Finland"),
    ("FJ", "Fiji"),
    ("FK", "Falkland Islands"),
    ("FM", "Micronesia"),
    ("FO", "Faroe Islands"),
    ("FR", "France"),
    ("GA", "Gabon"),
    ("GB", "United Kingdom"),
    ("GD", "Grenada"),
    ("GE", "Georgia"),
    ("GF", "French Guiana"),
    ("GG", "Guernsey"),
    ("GH", "Ghana"),
    ("GI", "Gibraltar"),
    ("GL", "Greenland"),
    ("GM", "Gambia"),
    ("GN", "Guinea"),
    ("GP", "Guadeloupe"),
    ("GQ", "Equatorial Guinea"),
    ("GR", "Greece"),
    ("GS", "South Georgia and the South Sandwich Islands"),
    ("GT", "Guatemala"),
    ("GU", "Guam"),
    ("GW", "Guinea-Bissau"),
    ("GY", "Guyana"),
    ("HK", "Hong Kong"),
    ("HM", "Heard Island and McDonald Islands"),
    ("HN", "Honduras"),
    ("HR", "Croatia"),
    ("HT", "Haiti"),
    ("HU", "Hungary"),
    ("ID", "Indonesia"),
    ("IE", "Ireland"),
    ("IL", "Israel"),
    ("IM", "Isle of Man"),
    ("IN", "India"),
    ("IO", "British Indian Ocean Territory"),
    ("IQ", "Iraq"),
    ("IR", "Iran"),
    ("IS", "Iceland"),
    ("IT", "Italy"),
    ("JE", "Jersey"),
    ("JM", "Jamaica"),
    ("JO", "Jordan"),
    ("JP", "Japan"),
    ("KE", "Kenya"),
    ("KG", "Kyrgyzstan"),
    ("KH", "Cambodia"),
    ("KI", "Kiribati"),
    ("KM", "Comoros"),
    ("KN", "Saint Kitts and Nevis"),
    ("KP", "North Korea"),
    ("KR", "South Korea"),
    ("KW", "Kuwait"),
    ("KY", "Cayman Islands"),
    ("KZ", "Kazakhstan"),
    ("LA", "Laos"),
    ("LB", "Lebanon"),
    ("LC", "Saint Lucia"),
    ("LI", "Liechtenstein"),
    ("LK", "Sri Lanka"),
    ("LR", "Liberia"),
    ("LS", "Lesotho"),
    ("LT", "Lithuania"),
    ("LU", "Luxembourg"),
    ("LV", "Latvia"),
    ("LY", "Libya"),
    ("MA", "Morocco"),
    ("MC", "Monaco"),
    ("MD", "Moldova"),
    ("ME", "Montenegro"),
    ("MF", "Saint Martin"),
    ("MG", "Madagascar"),
    ("MH", "Marshall Islands"),
    ("MK", "North Macedonia"),
    ("ML", "Mali"),
    ("MM", "Myanmar"),
    ("MN", "Mongolia"),
    ("MO", "Macao"),
    ("MP", "Northern Mariana Islands"),
    ("MQ", "Martinique"),
    ("MR", "Mauritania"),
    ("MS", "Montserrat"),
    ("MT", "Malta"),
    ("MU", "Mauritius"),
    ("MV", "Maldives"),
    ("MW", "Malawi"),
    ("MX", "Mexico"),
    ("MY", "Malaysia"),
    ("MZ", "Mozambique"),
    ("NA", "Namibia"),
    ("NC", "New Caledonia"),
    ("NE", "Niger"),
    ("NF", "Norfolk Island"),
    ("NG", "Nigeria"),
    ("NI", "Nicaragua"),
    ("NL", "Netherlands"),
    ("NO", "Norway"),
    ("NP", "Nepal"),
    ("NR", "Nauru"),
    ("NU", "Niue"),
    ("NZ", "New Zealand"),
    ("OM", "Oman"),
    ("PA", "Panama"),
    ("PE", "Peru"),
    ("PF", "French Polynesia"),
    ("PG", "Papua New Guinea"),
    ("PH", "Philippines"),
    ("PK", "Pakistan"),
    ("PL", "Poland"),
    ("PM", "Saint Pierre and Miquelon"),
    ("PN", "Pitcairn Islands"),
    ("PR", "Puerto Rico"),
    ("PS", "Palestine"),
    ("PT", "Portugal"),
    ("PW", "Palau"),
    ("PY", "Paraguay"),
    ("QA", "Qatar"),
    ("RE", "Réunion"),
    ("RO", "Romania"),
    ("RS", "Serbia"),
    ("RU", "Russia"),
    ("RW", "Rwanda"),
    ("SA", "Saudi Arabia"),
    ("SB", "Solomon Islands"),
    ("SC", "Seychelles"),
    ("SD", "Sudan"),
    ("SE", "Sweden"),
    ("SG", "Singapore"),
    ("SH", "Saint Helena"),
    ("SI", "Slovenia"),
    ("SJ", "Svalbard and Jan Mayen"),
    ("SK", "Slovakia"),
    ("SL", "Sierra Leone"),
    ("SM", "San Marino"),
    ("SN", "Senegal"),
    ("SO", "Somalia"),
    ("SR", "Suriname"),
    ("SS", "South Sudan"),
    ("ST", "São Tomé and Príncipe"),
    ("SV", "El Salvador"),
    ("SX", "Sint Maarten"),
    ("SY", "Syria"),
    ("SZ", "Eswatini"),
    ("TC", "Turks and Caicos Islands"),
    ("TD", "Chad"),
    ("TF", "French Southern Territories"),
    ("TG", "Togo"),
    ("TH", "Thailand"),
    ("TJ", "Tajikistan"),
    ("TK", "Tokelau"),
    ("TL", "Timor-Leste"),
    ("TM", "Turkmenistan"),
    ("TN", "Tunisia"),
    ("TO", "Tonga"),
    ("TR", "Turkey"),
    ("TT", "Trinidad and Tobago"),
    ("TV", "Tuvalu"),
    ("TW", "Taiwan"),
    ("TZ", "Tanzania"),
    ("UA", "Ukraine"),
    ("UG", "Uganda"),
    ("UM", "United States Minor Outlying Islands"),
    ("US", "United States"),
    ("UY", "Uruguay"),
    ("UZ", "Uzbekistan"),
    ("VA", "Vatican City"),
    ("VC", "Saint Vincent and the Grenadines"),
    ("VE", "Venezuela"),
    ("VG", "British Virgin Islands"),
    ("VI", "U.S. Virgin Islands"),
    ("VN", "Vietnam"),
    ("VU", "Vanuatu"),
    ("WF", "Wallis and Futuna"),
    ("WS", "Samoa"),
    ("XK", "Kosovo"),
    ("YE", "Yemen"),
    ("YT", "Mayotte"),
    ("ZA", "South Africa"),
    ("ZM", "Zambia"),
    ("ZW", "Zimbabwe"),
];

/// Other names that are read and never written.
const OTHER_NAMES: &[(&str, &str)] = &[
    ("AX", "Aland Islands"),
    ("BL", "Saint Barthelemy"),
    ("BN", "Brunei Darussalam"),
    ("BO", "Plurinational State of Bolivia"),
    ("BQ", "Caribbean Netherlands"),
    ("CC", "Cocos (Keeling) Islands"),
    ("CD", "Congo - Kinshasa"),
    ("CD", "Congo, The Democratic Republic of the"),
    ("CD", "DR Congo"),
    ("CG", "Congo"),
    ("CG", "Congo - Brazzaville"),
    ("CI", "Cote d'Ivoire"),
    ("CI", "Côte d’Ivoire"),
    ("CI", "Ivory Coast"),
    ("CV", "Cabo Verde"),
    ("CW", "Curacao"),
    ("CZ", "Czechia"),
    ("FK", "Falkland Islands (Malvinas)"),
    ("FM", "Federated States of Micronesia"),
    ("FM", "Micronesia, Federated States of"),
    ("GB", "Great Britain"),
    ("GB", "United Kingdom of Great Britain and Northern Ireland"),
    ("HK", "Hong Kong SAR China"),
    ("IR", "Islamic Republic of Iran"),
    ("KP", "Korea, Democratic People's Republic of"),
    ("KR", "Korea (South)"),
    ("KR", "Korea, Republic of"),
    ("KR", "Republic of Korea"),
    ("LA", "Lao People's Democratic Republic"),
    ("MD", "Republic of Moldova"),
    ("MF", "Saint Martin (French part)"),
    ("MK", "Macedonia"),
    ("MM", "Burma"),
    ("MO", "Macau"),
    ("NL", "Holland"),
    ("NL", "The Netherlands"),
    ("PN", "Pitcairn"),
    ("PS", "Palestine, State of"),
    ("PS", "State of Palestine"),
    ("RE", "Reunion"),
    ("RU", "Russian Federation"),
    ("SH", "Saint Helena, Ascension and Tristan da Cunha"),
    ("ST", "Sao Tome and Principe"),
    ("SX", "Sint Maarten (Dutch part)"),
    ("SY", "Syrian Arab Republic"),
    ("SZ", "Swaziland"),
    ("TL", "East Timor"),
    ("TR", "Turkiye"),
    ("TR", "Türkiye"),
    ("TW", "Taiwan, Province of China"),
    ("TZ", "United Republic of Tanzania"),
    ("US", "U.S.A."),
    ("US", "USA"),
    ("US", "United States of America"),
    ("VA", "Holy See"),
    ("VA", "Holy See (Vatican City State)"),
    ("VE", "Bolivarian Republic of Venezuela"),
    ("VG", "Virgin Islands, British"),
    ("VI", "United States Virgin Islands"),
    ("VI", "Virgin Islands, U.S."),
    ("VN", "Viet Nam"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_whole_and_sorted() {
        assert_eq!(COUNTRIES.len(), 249 + 1);
        assert!(COUNTRIES.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert_eq!(NAMES.len(), COUNTRIES.len() + OTHER_NAMES.len(), "a name stands for two countries");
    }

    #[test]
    fn every_name_leads_back_to_its_code() {
        for (code, name) in COUNTRIES {
            assert_eq!(country(code).as_deref(), Some(*code));
            assert_eq!(country(&code.to_lowercase()).as_deref(), Some(*code));
            assert_eq!(country_name(code), Some(*name));
            assert!(is_code(code), "{code}");
            assert_eq!(country(&name.to_uppercase()).as_deref(), Some(*code), "{name}");
        }
    }

    #[test]
    fn what_is_no_country_is_none() {
        for wrong in ["ZZ", "XX", "AA", "QQ", "EU", "", "S", "SWE", "Atlantis", "1a", "\u{e9}"] {
            assert_eq!(country(wrong), None, "{wrong}");
            assert!(!is_code(wrong), "{wrong}");
        }
        assert!(!is_code("UK") && !is_code("se"), "only the normal form is valid");
    }

    #[test]
    fn ways_to_write_one_country() {
        for (raw, code) in [
            ("UK", "GB"),
            (" uk ", "GB"),
            ("EL", "GR"),
            ("gr", "GR"),
            ("Great Britain", "GB"),
            ("The Netherlands", "NL"),
            ("Trinidad & Tobago", "TT"),
            ("St. Lucia", "LC"),
            ("czechia", "CZ"),
            ("T\u{fc}rkiye", "TR"),
            ("Cura\u{e7}ao", "CW"),
        ] {
            assert_eq!(country(raw).as_deref(), Some(code), "{raw}");
        }
        assert_eq!(country("Curac\u{327}ao").as_deref(), Some("CW"), "decomposed");
    }
}

//! Every transform by table: values, edges, mistakes.

use super::*;

fn chain(json: &str) -> Chain {
    let step = serde_json::from_str(json).unwrap_or_else(|error| panic!("{json}: {error}"));
    Chain::new(vec![step]).expect(json)
}

/// Sends values through one step, one after the other.
fn results(json: &str, values: &[Datum<'static>]) -> Vec<Datum<'static>> {
    let chain = chain(json);
    let mut memory = chain.memory();
    let own = |result: Datum<'_>| match result {
        Datum::Text(text) => Datum::Text(text.into_owned().into()),
        Datum::Null => Datum::Null,
        Datum::Bool(flag) => Datum::Bool(flag),
        Datum::Int(number) => Datum::Int(number),
        Datum::Float(number) => Datum::Float(number),
        Datum::Other(value) => panic!("{json} gave {value:?}"),
    };
    values.iter().map(|value| own(chain.apply(value.clone(), &mut memory))).collect()
}

fn text(text: &'static str) -> Datum<'static> {
    Datum::Text(text.into())
}

use Datum::{Bool, Float, Int, Null};

#[test]
fn every_transform_does_what_its_line_says() {
    const INF: f64 = f64::INFINITY;
    let scale = r#"{"type":"scale","from_min":0,"from_max":127,"to_min":0,"to_max":1}"#;
    let turned = r#"{"type":"scale","from_min":0,"from_max":1,"to_min":255,"to_max":0}"#;
    let clamp = r#"{"type":"clamp","min":0,"max":255}"#;
    let lookup = r#"{"type":"lookup","table":{"1":"red","true":2,"red":0.5,"null":false},
        "default":-1}"#;
    let strict = r#"{"type":"lookup","table":{"1":"red"}}"#;
    let above = r#"{"type":"threshold","value":0.5}"#;
    let below = r#"{"type":"threshold","value":0.5,"mode":"below"}"#;
    let equal = r#"{"type":"threshold","value":0.5,"mode":"equal"}"#;
    let chain = r#"{"type":"chain","transforms":[
        {"type":"scale","from_min":0,"from_max":1,"to_min":0,"to_max":255},{"type":"to_int"}]}"#;
    let conditional = r#"{"type":"conditional","condition":{"type":"greater_than","value":0},
        "if_true":{"type":"identity"},"if_false":{"type":"negate"}}"#;
    let path = r#"{"type":"json_path","path":"$.pos[1].x"}"#;
    let json = r#"{"pos":[{"x":1},{"x":2.5}]}"#;
    let cases = [
        (r#"{"type":"identity"}"#, Int(1), Int(1)),
        (r#"{"type":"identity"}"#, Null, Null),
        (r#"{"type":"expression","expr":"value * 10"}"#, Int(2), Float(20.0)),
        (scale, Int(127), Float(1.0)),
        (scale, Int(0), Float(0.0)),
        (scale, Int(254), Float(2.0)),
        (scale, Float(-127.0), Float(-1.0)),
        (scale, Bool(true), Bool(true)),
        (scale, text("loud"), text("loud")),
        (scale, Float(INF), Float(INF)),
        (turned, Float(0.25), Float(191.25)),
        (clamp, Int(300), Int(255)),
        (clamp, Int(-1), Int(0)),
        (clamp, Float(12.5), Float(12.5)),
        (clamp, Float(-INF), Float(0.0)),
        (clamp, Null, Null),
        (r#"{"type":"clamp","min":0,"max":0.5}"#, Int(3), Float(0.5)),
        (r#"{"type":"invert"}"#, Float(0.25), Float(0.75)),
        (r#"{"type":"invert"}"#, Int(1), Int(0)),
        (r#"{"type":"invert"}"#, text("a"), text("a")),
        (r#"{"type":"to_int"}"#, Float(1.99), Int(1)),
        (r#"{"type":"to_int"}"#, Float(-1.99), Int(-1)),
        (r#"{"type":"to_int"}"#, Float(f64::NAN), Int(0)),
        (r#"{"type":"to_int"}"#, Float(1e300), Int(i64::MAX)),
        (r#"{"type":"to_int"}"#, Bool(true), Int(1)),
        (r#"{"type":"to_int"}"#, text("1"), text("1")),
        (r#"{"type":"to_float"}"#, Int(3), Float(3.0)),
        (r#"{"type":"to_float"}"#, Bool(false), Float(0.0)),
        (r#"{"type":"to_float"}"#, Null, Null),
        (lookup, Int(1), text("red")),
        (lookup, Float(1.0), text("red")),
        (lookup, Bool(true), Int(2)),
        (lookup, text("red"), Float(0.5)),
        (lookup, Null, Bool(false)),
        (lookup, Int(7), Int(-1)),
        (strict, Int(7), Int(7)),
        (r#"{"type":"curve","curve_type":"quad_in"}"#, Float(0.5), Float(0.25)),
        (r#"{"type":"curve","curve_type":"linear"}"#, Int(9), Float(1.0)),
        (r#"{"type":"curve","curve_type":"linear"}"#, text("9"), text("9")),
        (r#"{"type":"quantize","steps":4}"#, Float(0.3), Float(0.25)),
        (r#"{"type":"quantize","steps":4}"#, Float(0.9), Float(1.0)),
        (r#"{"type":"quantize","steps":1}"#, Float(-0.6), Float(-1.0)),
        (r#"{"type":"quantize","steps":4}"#, Float(INF), Float(INF)),
        (r#"{"type":"dead_zone","threshold":0.1}"#, Float(0.05), Float(0.0)),
        (r#"{"type":"dead_zone","threshold":0.1}"#, Float(-0.1), Float(-0.1)),
        (r#"{"type":"dead_zone","threshold":3}"#, Int(-2), Int(0)),
        (above, Float(0.6), Bool(true)),
        (above, Float(0.5), Bool(false)),
        (above, Float(f64::NAN), Bool(false)),
        (above, text("a"), text("a")),
        (below, Int(0), Bool(true)),
        (equal, Float(0.5), Bool(true)),
        (r#"{"type":"modulo","divisor":4}"#, Int(7), Int(3)),
        (r#"{"type":"modulo","divisor":4}"#, Float(-7.5), Float(-3.5)),
        (r#"{"type":"modulo","divisor":0.5}"#, Int(7), Int(0)),
        (r#"{"type":"abs"}"#, Int(-3), Int(3)),
        (r#"{"type":"abs"}"#, Float(-INF), Float(INF)),
        (r#"{"type":"abs"}"#, Int(i64::MIN), Float(9_223_372_036_854_775_808.0)),
        (r#"{"type":"negate"}"#, Int(3), Int(-3)),
        (r#"{"type":"negate"}"#, Bool(true), Bool(true)),
        (r#"{"type":"power","exponent":2}"#, Int(3), Float(9.0)),
        (r#"{"type":"power","exponent":-1}"#, Int(0), Float(INF)),
        (r#"{"type":"log"}"#, Int(1), Float(0.0)),
        (r#"{"type":"log","base":2}"#, Int(8), Float(3.0)),
        (r#"{"type":"log","base":10}"#, Int(0), Float(-INF)),
        (r#"{"type":"round","decimals":1}"#, Float(0.25), Float(0.3)),
        (r#"{"type":"round","decimals":0}"#, Float(-0.5), Float(-1.0)),
        (r#"{"type":"round","decimals":2}"#, Int(7), Int(7)),
        (r#"{"type":"round","decimals":15}"#, Float(1e300), Float(1e300)),
        (chain, Float(0.5), Int(127)),
        (chain, Float(1.0), Int(255)),
        (conditional, Int(-3), Int(3)),
        (conditional, Int(3), Int(3)),
        (path, text(json), Float(2.5)),
        (path, text("{}"), Null),
        (path, text("not json"), text("not json")),
        (path, Int(3), Int(3)),
        (r#"{"type":"json_path","path":"pos.0.x"}"#, text(json), Int(1)),
        (r#"{"type":"map_type","from_type":"string","to_type":"int"}"#, text(" 42 "), Int(42)),
        (r#"{"type":"map_type","from_type":"string","to_type":"int"}"#, text("x"), text("x")),
        (r#"{"type":"map_type","from_type":"string","to_type":"float"}"#, text(".5"), Float(0.5)),
        (r#"{"type":"map_type","from_type":"string","to_type":"bool"}"#, text("true"), Bool(true)),
        (r#"{"type":"map_type","from_type":"int","to_type":"string"}"#, Int(-3), text("-3")),
        (r#"{"type":"map_type","from_type":"int","to_type":"string"}"#, Float(1.0), Float(1.0)),
        (r#"{"type":"map_type","from_type":"float","to_type":"bool"}"#, Float(0.1), Bool(true)),
        (r#"{"type":"map_type","from_type":"int","to_type":"bool"}"#, Int(0), Bool(false)),
        (r#"{"type":"map_type","from_type":"bool","to_type":"int"}"#, Bool(true), Int(1)),
        (r#"{"type":"map_type","from_type":"bool","to_type":"string"}"#, Bool(true), text("true")),
        (r#"{"type":"map_type","from_type":"float","to_type":"int"}"#, Float(2.9), Int(2)),
        (r#"{"type":"bitwise","operation":"and","operand":15}"#, Int(0x7F), Int(15)),
        (r#"{"type":"bitwise","operation":"or","operand":8}"#, Float(1.5), Int(9)),
        (r#"{"type":"bitwise","operation":"xor","operand":3}"#, Int(1), Int(2)),
        (r#"{"type":"bitwise","operation":"not"}"#, Int(0), Int(-1)),
        (r#"{"type":"bitwise","operation":"shift_left","operand":7}"#, Int(1), Int(128)),
        (r#"{"type":"bitwise","operation":"shift_left","operand":64}"#, Int(1), Int(0)),
        (r#"{"type":"bitwise","operation":"shift_right","operand":3}"#, Int(-16), Int(-2)),
        (r#"{"type":"bitwise","operation":"shift_right","operand":99}"#, Int(-16), Int(-1)),
        (r#"{"type":"bitwise","operation":"get_bit","operand":3}"#, Int(8), Int(1)),
        (r#"{"type":"bitwise","operation":"get_bit","operand":63}"#, Int(-1), Int(1)),
        (r#"{"type":"bitwise","operation":"set_bit","operand":0}"#, Int(8), Int(9)),
        (r#"{"type":"bitwise","operation":"clear_bit","operand":3}"#, Int(9), Int(1)),
        (r#"{"type":"bitwise","operation":"not"}"#, Float(INF), Float(INF)),
        (r#"{"type":"bitwise","operation":"not"}"#, text("a"), text("a")),
    ];
    for (json, value, result) in cases {
        assert_eq!(results(json, std::slice::from_ref(&value)), [result], "{json} of {value:?}");
    }
    for (json, value) in [
        (r#"{"type":"power","exponent":0.5}"#, Float(-1.0)),
        (r#"{"type":"log"}"#, Int(-1)),
        (clamp, Float(f64::NAN)),
        (scale, Float(f64::NAN)),
    ] {
        let result = &results(json, &[value])[0];
        assert!(matches!(result, Float(x) if x.is_nan()), "{json}: {result:?}");
    }
}

#[test]
fn steps_that_remember_follow_the_values_before() {
    let smooth = r#"{"type":"smooth","factor":0.5}"#;
    let values = [Int(0), Int(8), text("x"), Float(f64::INFINITY), Int(8)];
    let expected = [Float(0.0), Float(4.0), text("x"), Float(f64::INFINITY), Float(6.0)];
    assert_eq!(results(smooth, &values), expected);

    let limit = r#"{"type":"rate_limit","max_delta":2}"#;
    let values = [Int(10), Int(20), Int(20), Int(13), Int(0)];
    let expected = [10.0, 12.0, 14.0, 13.0, 11.0].map(Float);
    assert_eq!(results(limit, &values), expected);
}

#[test]
fn inner_steps_remember_apart() {
    let json = r#"{"type":"conditional","condition":{"type":"less_than","value":0},
        "if_true":{"type":"smooth","factor":0.5},
        "if_false":{"type":"chain","transforms":[
            {"type":"rate_limit","max_delta":1},{"type":"smooth","factor":0.5}]}}"#;
    assert_eq!(chain(json).memory().last.len(), 3);
    let values = [-4, 4, -8, 8].map(Int);
    assert_eq!(results(json, &values), [-4.0, 4.0, -6.0, 4.5].map(Float));
}

#[test]
fn a_path_reads_maps_and_arrays_of_the_wire() {
    use clasp_rt_core::value::{Value, code};
    // {a: [null, {b: 7}]}
    let mut bytes = vec![0, 1, 0, 1, b'a', code::ARRAY, 0, 2, code::NULL, code::MAP, 0, 1, 0, 1];
    bytes.extend_from_slice(&[b'b', code::I8, 7]);
    let (value, _) = Value::parse(code::MAP, &bytes).expect("a map");
    let cases =
        [("$.a[1].b", Int(7)), ("a.1.b", Int(7)), ("a.2", Null), ("b", Null), ("a.b", Null)];
    for (path, result) in cases {
        assert_eq!(json_path(path, Datum::Other(value)), result, "{path}");
    }
}

#[test]
fn mistakes_are_found_before_the_first_value() {
    for json in [
        r#"{"type":"scale","from_min":1,"from_max":1,"to_min":0,"to_max":1}"#,
        r#"{"type":"clamp","min":2,"max":1}"#,
        r#"{"type":"quantize","steps":0}"#,
        r#"{"type":"smooth","factor":0}"#,
        r#"{"type":"smooth","factor":1.5}"#,
        r#"{"type":"rate_limit","max_delta":-1}"#,
        r#"{"type":"modulo","divisor":0}"#,
        r#"{"type":"log","base":1}"#,
        r#"{"type":"log","base":-2}"#,
        r#"{"type":"round","decimals":16}"#,
        r#"{"type":"curve","curve_type":{"bezier":{"x1":2,"y1":0,"x2":0,"y2":1}}}"#,
        r#"{"type":"bitwise","operation":"and"}"#,
        r#"{"type":"bitwise","operation":"shift_left","operand":-1}"#,
        r#"{"type":"bitwise","operation":"get_bit","operand":64}"#,
        r#"{"type":"json_path","path":"a..b"}"#,
        r#"{"type":"json_path","path":"a[1"}"#,
        r#"{"type":"chain","transforms":[{"type":"quantize","steps":0}]}"#,
        r#"{"type":"conditional","condition":{"type":"in_range","min":2,"max":1},
            "if_true":{"type":"identity"},"if_false":{"type":"identity"}}"#,
    ] {
        let step: Transform = serde_json::from_str(json).expect(json);
        assert!(Chain::new(vec![step]).is_err(), "{json}");
    }
    for json in [
        r#"{"type":"scales"}"#,
        r#"{"type":"invert","by":1}"#,
        r#"{"type":"clamp","min":0}"#,
        r#"{"type":"clamp","min":0,"max":1,"mode":"soft"}"#,
        r#"{"type":"expression","expr":"value +"}"#,
        r#"{"type":"bitwise","operation":"nand","operand":1}"#,
    ] {
        assert!(serde_json::from_str::<Transform>(json).is_err(), "{json}");
    }
}

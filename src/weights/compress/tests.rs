use crate::quant::QuantizedMatrix;
use crate::testkit::golden::{Golden, folder};
use crate::weights::names::{Projection, TensorId};
use crate::weights::safetensors_file::{FORMAT_PT, write_safetensors};
use crate::weights::{Compression, Holding, HostDtype, HostTensor, Source};

const Q: TensorId = TensorId::Projection(0, Projection::Q);

fn holding(projections: Compression) -> Holding {
    Holding { projections, ..Holding::default() }
}

fn quantized(source: &Source, id: &TensorId, holding: &Holding) -> QuantizedMatrix {
    let &[rows, cols] = source.shape(id).unwrap() else { panic!("{id} is no matrix") };
    source.read_compressed(id, [rows, cols], holding).unwrap().unwrap_or_else(|| panic!("{id} is not quantised"))
}

fn values(matrix: &QuantizedMatrix) -> Vec<f32> {
    let [rows, cols] = matrix.dims();
    let mut out = vec![f32::NAN; rows * cols];
    matrix.dequantize_rows(0..rows, &mut out);
    out
}

#[test]
fn folders_that_bitsandbytes_saved_hold_its_values() {
    for form in ["nf4", "nf4_double"] {
        let source = Source::open_folder(&folder("quant").join(form)).unwrap();
        let golden = Golden::read(&folder("quant").join(format!("{form}.safetensors")));
        assert_eq!(golden.names().count(), 6);
        for name in golden.names() {
            let id = TensorId::parse_hf(name).unwrap();
            let matrix = quantized(&source, &id, &Holding::default());
            let found: Vec<f64> = values(&matrix).into_iter().map(f64::from).collect();
            assert_eq!(found, golden.values(name), "{form} {name}");
            assert_eq!(matrix.kind(), form.to_uppercase());
            let dense = source.read(&id, golden.shape(name), Some(HostDtype::F32)).unwrap();
            assert_eq!(dense.into_f32(), values(&matrix), "{form} {name}");
        }
        // The projection that was left out, and everything else, is what it is in other folders.
        let down = TensorId::Projection(0, Projection::Down);
        assert!(source.read_compressed(&down, [48, 80], &Holding::default()).unwrap().is_none());
        assert_eq!(source.read(&down, &[48, 80], None).unwrap().dtype(), HostDtype::BF16);
        assert!(source.unused().is_empty(), "{:?}", source.unused());
        let info = source.tensors().into_iter().find(|info| info.name == Q.hf()).unwrap();
        assert_eq!((info.shape.as_slice(), info.dtype.as_str()), (&[64, 48][..], matrix_kind(form)));
    }
}

fn matrix_kind(form: &str) -> &'static str {
    if form == "nf4" { "NF4" } else { "NF4_DOUBLE" }
}

#[test]
fn a_folder_is_not_quantised_twice() {
    let open = |name: &str| Source::open_folder(&folder(name)).unwrap();
    let (single, double, plain) = (open("quant/nf4"), open("quant/nf4_double"), open("model/lora/model"));
    use Compression::{AsStored, Int8, Nf4, Nf4Double, None};
    for (source, good) in [
        (&single, [None, Nf4, AsStored].as_slice()),
        (&double, &[None, Nf4Double, AsStored]),
        (&plain, &[None, Int8, Nf4, Nf4Double]),
    ] {
        for compression in [None, Int8, Nf4, Nf4Double, AsStored] {
            let checked = source.check(&holding(compression));
            assert_eq!(checked.is_ok(), good.contains(&compression), "{compression:?} {checked:?}");
        }
    }
}

#[test]
fn quantising_while_reading_equals_quantising_the_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    // Rows of 48 cross blocks and chunks; more than a slab would be too slow here, more than two chunks is not.
    let (rows, cols) = (1500, 48);
    let numbers: Vec<f32> = (0..rows * cols).map(|i| ((i * 7919) % 10007) as f32 / 5000.0 - 1.0).collect();
    write_safetensors(&path, [(Q.hf(), HostTensor::f32([rows, cols], numbers.clone()))], FORMAT_PT).unwrap();
    let source = Source::open_folder(dir.path()).unwrap();
    let expect = |compression, expected: Option<QuantizedMatrix>| {
        let found = quantized(&source, &Q, &holding(compression));
        assert_eq!(values(&found), values(&expected.unwrap()), "{compression:?}");
    };
    expect(Compression::Int8, QuantizedMatrix::to_int8(&numbers, [rows, cols]));
    expect(Compression::Nf4, QuantizedMatrix::to_nf4(&numbers, [rows, cols], false));
    expect(Compression::Nf4Double, QuantizedMatrix::to_nf4(&numbers, [rows, cols], true));
}

#[test]
fn weights_that_are_not_finite_are_not_quantised() {
    let dir = tempfile::tempdir().unwrap();
    let mut numbers = vec![1.0; 64];
    numbers[9] = f32::NAN;
    let tensor = HostTensor::f32([2, 32], numbers);
    write_safetensors(&dir.path().join("model.safetensors"), [(Q.hf(), tensor)], FORMAT_PT).unwrap();
    let source = Source::open_folder(dir.path()).unwrap();
    let error = source.read_compressed(&Q, [2, 32], &holding(Compression::Nf4)).unwrap_err();
    let what = format!("tensor `{}`: the number at [0, 9] is NaN", Q.hf());
    assert_eq!(error.what(), what);
    assert_eq!(source.read(&Q, &[2, 32], None).unwrap_err().what(), what);
}

#[test]
fn a_gguf_as_stored_has_the_values_of_its_blocks() {
    let source = Source::open_gguf(&folder("gguf/tiny-gemma3.gguf")).unwrap();
    let mut kinds = std::collections::BTreeSet::new();
    for info in source.tensors().into_iter().filter(|info| info.shape.len() == 2) {
        let id = TensorId::parse_gguf(&info.name).unwrap();
        let matrix = quantized(&source, &id, &holding(Compression::AsStored));
        let dense = source.read(&id, &info.shape, Some(HostDtype::F32)).unwrap().into_f32();
        assert_eq!(values(&matrix), dense, "{}", info.name);
        assert_eq!((matrix.kind(), matrix.bytes()), (info.dtype.as_str(), info.bytes), "{}", info.name);
        kinds.insert(info.dtype);
    }
    assert!(kinds.len() > 8, "{kinds:?}");
}

#[test]
fn a_damaged_packed_matrix_is_refused() {
    let edited = |change: &dyn Fn(&mut Vec<u8>)| {
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = std::fs::read(folder("quant/nf4_double/model.safetensors")).unwrap();
        change(&mut bytes);
        std::fs::write(dir.path().join("model.safetensors"), bytes).unwrap();
        let read = |source: Source| source.read_compressed(&Q, [64, 48], &Holding::default()).map(|_| ());
        Source::open_folder(dir.path()).and_then(read).unwrap_err().what().to_owned()
    };
    let replace = |from: &'static str, to: &'static str| {
        move |bytes: &mut Vec<u8>| {
            assert_eq!(from.len(), to.len());
            let places: Vec<usize> =
                (0..bytes.len() - from.len()).filter(|&i| bytes[i..].starts_with(from.as_bytes())).collect();
            assert!(!places.is_empty(), "{from}");
            places.iter().for_each(|&i| bytes[i..i + to.len()].copy_from_slice(to.as_bytes()));
        }
    };
    let text = edited(&replace("\"blocksize\": 64", "\"blocksize\": 32"));
    assert!(text.contains("is stored as nf4 in blocks of 32"), "{text}");
    let text = edited(&replace("\"quant_type\": \"nf4\"", "\"quant_type\": \"fp4\""));
    assert!(text.contains("is stored as fp4 in blocks of 64"), "{text}");
    let text = edited(&replace("{\"quant_type\"", "[\"quant_type\""));
    assert!(text.contains("JSON that is not valid"), "{text}");
    let text = edited(&replace("\"shape\": [64, 48]", "\"shape\": [64, 49]"));
    assert!(text.contains("is said to be [64, 49], which its bytes are not"), "{text}");
    let text = edited(&replace("\"shape\": [64, 48]", "\"shape\": [48, 64]"));
    assert!(text.contains("expected [64, 48], found [48, 64]"), "{text}");
    let text = edited(&replace("q_proj.weight.absmax", "q_proj.weight.absmix"));
    assert!(text.contains("`model.layers.0.self_attn.q_proj.weight.absmax` is missing or not of U8"), "{text}");
    let text =
        edited(&replace("q_proj.weight.quant_state.bitsandbytes__nf4", "q_proj.weight.quant_state.bitsandbytes__fp4"));
    assert!(text.contains("stored as FP4"), "{text}");
}

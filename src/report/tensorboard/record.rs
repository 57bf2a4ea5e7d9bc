//! The TFRecord frame: length, checksum of the length, data, checksum of the data.

use prost::Message;

/// `message` as one record: `u64 length, u32 crc(length), data, u32 crc(data)`, little-endian.
pub fn encode(message: &impl Message) -> Vec<u8> {
    let data = message.encode_to_vec();
    let length = (data.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(data.len() + 16);
    record.extend_from_slice(&length);
    record.extend_from_slice(&masked_crc32c(&length).to_le_bytes());
    record.extend_from_slice(&data);
    record.extend_from_slice(&masked_crc32c(&data).to_le_bytes());
    record
}

/// CRC-32C, rotated and shifted as TFRecord wants it, so that checksums of data that holds checksums stay good.
fn masked_crc32c(data: &[u8]) -> u32 {
    const MASK_DELTA: u32 = 0xa282_ead8;
    crc32c::crc32c(data).rotate_right(15).wrapping_add(MASK_DELTA)
}

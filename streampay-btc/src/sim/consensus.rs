use bitcoin::consensus::encode::serialize;
use bitcoin::{Transaction, TxOut};
use bitcoinconsensus::{Utxo, VERIFY_ALL_PRE_TAPROOT, VERIFY_TAPROOT, verify_with_flags};

/// Bitcoin Core's script code refuses this input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("input {0} does not satisfy its script")]
pub struct BadInput(pub usize);

/// Judges every input by Bitcoin Core's script interpreter, Taproot included. `spent` are the
/// outputs that the inputs spend, in their order.
///
/// # Errors
/// [`BadInput`] for the first one refused, or for one without an output.
pub fn check_scripts(tx: &Transaction, spent: &[TxOut]) -> Result<(), BadInput> {
    let raw = serialize(tx);
    let mut utxos = Vec::with_capacity(spent.len());
    for (index, output) in spent.iter().enumerate() {
        let script = output.script_pubkey.as_bytes();
        utxos.push(Utxo {
            script_pubkey: script.as_ptr(),
            script_pubkey_len: u32::try_from(script.len()).map_err(|_| BadInput(index))?,
            value: output
                .value
                .to_signed()
                .map_err(|_| BadInput(index))?
                .to_sat(),
        });
    }
    if spent.len() != tx.input.len() {
        return Err(BadInput(spent.len().min(tx.input.len())));
    }
    let flags = VERIFY_ALL_PRE_TAPROOT | VERIFY_TAPROOT;
    for (index, output) in spent.iter().enumerate() {
        let script = output.script_pubkey.as_bytes();
        let value = output.value.to_sat();
        verify_with_flags(script, value, &raw, Some(&utxos), index, flags)
            .map_err(|_| BadInput(index))?;
    }
    Ok(())
}

const ort = require('onnxruntime-node'), fs = require('fs');

async function main() {
  const contract = JSON.parse(fs.readFileSync('exported/onnx/inlet.json', 'utf8'));
  const session = await ort.InferenceSession.create('exported/onnx/inlet.onnx');
  let memory = {};
  for (const {name, shape, type, reset} of contract.memory) {
    const size = shape.reduce((a, b) => a * b, 1);
    const data = type === 'int64' ? new BigInt64Array(size).fill(BigInt(reset)) : new Float32Array(size).fill(reset);
    memory[name] = new ort.Tensor(type, data, [1, ...shape]);
  }
  const n = contract.actions.count;
  for (const readings of [[0.4, 0.9], [0.45, 0.7]]) {
    const found = await session.run({
      observation: new ort.Tensor('float32', Float32Array.from(readings), [1, readings.length]),
      available: new ort.Tensor('bool', new Uint8Array(n).fill(1), [1, n]),
      ...memory,
    });
    for (const name of Object.keys(memory)) memory[name] = found[name === 'last_action' ? 'action' : `${name}_next`];
    console.log(Number(found.action.data[0]) + contract.actions.first);
  }
}
main();

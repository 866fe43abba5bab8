// A charger on another implementation of OCPP-J (ocpp-rpc, strict mode: every message in either
// direction is checked against that package's own schemas). A test tells it what to do.
//
//   node charger.mjs URL IDENTITY SUBPROTOCOL [PASSWORD]
//
// stdin, a line of JSON each:   {"id": 1, "call": "Heartbeat", "payload": {}}
//                               {"id": 2, "answer": "Reset", "payload": {"status": "Accepted"}}
//                               {"id": 3, "drop": true}      lose the network; it reconnects by itself
//                               {"id": 4, "close": true}
// stdout, a line of JSON each:  {"id": 1, "result": {…}}     or "error": [code, text]
//                               {"called": "Reset", "payload": {…}}    the server's calls, as they come
//                               {"invalid": "…"}             what broke a schema, in either direction
//                               {"connected": "ocpp1.6"}     each time it is
import { createInterface } from 'node:readline';
import { RPCClient, createRPCError } from 'ocpp-rpc';

const [endpoint, identity, protocol, password] = process.argv.slice(2);
const say = (line) => process.stdout.write(JSON.stringify(line) + '\n');
const answers = new Map();
const client = new RPCClient({
  endpoint,
  identity,
  password,
  protocols: [protocol],
  strictMode: true,
  callTimeoutMs: 10_000,
  backoff: { initialDelay: 50, maxDelay: 200, factor: 2, randomisationFactor: 0 },
});

client.on('open', () => say({ connected: client.protocol }));
client.on('strictValidationFailure', ({ error, outbound, isCall }) =>
  say({ invalid: `${outbound ? 'out' : 'in'} ${isCall ? 'call' : 'answer'}: ${error}` }));
client.handle(({ method, params }) => {
  say({ called: method, payload: params });
  if (!answers.has(method)) throw createRPCError('NotImplemented', method);
  return answers.get(method);
});

async function carryOut(order) {
  if ('call' in order) return client.call(order.call, order.payload);
  if ('answer' in order) answers.set(order.answer, order.payload);
  if (order.drop) client._ws.terminate();
  if (order.close) await client.close();
  return {};
}

await client.connect();
for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line);
  carryOut(order).then(
    (result) => say({ id: order.id, result }),
    (error) => say({ id: order.id, error: [error.rpcErrorCode ?? error.name, error.message] }),
  );
}
await client.close();
process.exit(0);

// Verifies webhooks by the official library: a JSON object a line in, a verdict a line out.
import { createInterface } from "node:readline";
import { Webhook } from "standardwebhooks";

for await (const line of createInterface({ input: process.stdin })) {
  const { secret, headers, body } = JSON.parse(line);
  let verdict;
  try {
    verdict = new Webhook(secret).verify(body, headers).type;
  } catch (error) {
    verdict = error.message;
  }
  console.log(JSON.stringify(verdict));
}

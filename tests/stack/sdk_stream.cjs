// What sdk_stream.py does, by OpenAI's SDK for Node.

const { OpenAI } = require("../../.local/tools/openai-node/node_modules/openai");

async function main([model, prompt, most]) {
  const messages = [{ role: "user", content: prompt }];
  const stream = await new OpenAI().chat.completions.create({ model, messages, stream: true });
  const arrivals = [];
  for await (const _ of stream) {
    arrivals.push((performance.timeOrigin + performance.now()) / 1000);
    if (arrivals.length === Number(most)) break;
  }
  console.log(JSON.stringify(arrivals));
}

main(process.argv.slice(2));

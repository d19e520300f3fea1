import type { Webhook, WebhookDelivery } from "@drydock/spec";
import type { Command } from "commander";
import { fields, table } from "../output/table.ts";
import { contextOf } from "./context.ts";
import { everyPage } from "./pages.ts";

/** `drydock webhook …`: who is told of what happens. */
export function addWebhookCommands(program: Command): void {
  const webhook = program.command("webhook").description("have events posted to a URL, signed");
  addDefinitionCommands(webhook);
  addDeliveryCommands(webhook);
}

function addDefinitionCommands(webhook: Command): void {
  webhook
    .command("create")
    .argument("<url>", "where events are posted")
    .option("--events <list>", "which, with commas: run.failed,model.*; default all", "*")
    .option("--description <text>", "what it is for", "")
    .description("make a webhook; its secret is shown this once")
    .action(async function (this: Command, url: string, options: { events: string; description: string }) {
      const { webhooks, output } = contextOf(this);
      const events = options.events.split(",").map((event) => event.trim());
      const created = await webhooks().create({ url, events, description: options.description });
      output.answer(created, () => [...describe(created), "", `secret: ${created.secret}`, "It is not shown again."]);
    });
  webhook
    .command("list")
    .description("webhooks, and why some are disabled")
    .action(async function (this: Command) {
      const { webhooks, output } = contextOf(this);
      const items = await webhooks().list();
      output.answer(items, () =>
        table(
          ["webhook", "state", "events", "url", "reason"],
          items.map(({ id, state, events, url, reason }) => [id, state, events.join(","), url, reason]),
        ),
      );
    });
  for (const [action, state, description] of [
    ["enable", "enabled", "send again, what waits included"],
    ["disable", "disabled", "send nothing until it is enabled"],
  ] as const)
    webhook
      .command(action)
      .argument("<webhook>", "its id")
      .description(description)
      .action(async function (this: Command, id: string) {
        const { webhooks, output } = contextOf(this);
        const changed = await webhooks().change(id, { state });
        output.answer(changed, () => describe(changed));
      });
  webhook
    .command("secret")
    .argument("<webhook>", "its id")
    .description("make a new secret; the one before signs, too, for a day")
    .action(async function (this: Command, id: string) {
      const { webhooks, output } = contextOf(this);
      const made = await webhooks().newSecret(id);
      output.answer(made, () => [`secret: ${made.secret}`, "It is not shown again."]);
    });
  webhook
    .command("delete")
    .argument("<webhook>", "its id")
    .description("delete a webhook and what is on its way to it")
    .action(async function (this: Command, id: string) {
      const { webhooks, output } = contextOf(this);
      await webhooks().remove(id);
      output.answer({ deleted: id }, () => [`webhook ${id} is deleted`]);
    });
}

function addDeliveryCommands(webhook: Command): void {
  webhook
    .command("test")
    .argument("<webhook>", "its id")
    .description("send an event of type webhook.test")
    .action(async function (this: Command, id: string) {
      const { webhooks, output } = contextOf(this);
      const delivery = await webhooks().test(id);
      output.answer(delivery, () => [`${delivery.id} is on its way: drydock webhook deliveries ${id}`]);
    });
  webhook
    .command("deliveries")
    .argument("<webhook>", "its id")
    .description("what was sent, or waits, newest first")
    .action(async function (this: Command, id: string) {
      const { webhooks, output } = contextOf(this);
      const items = await everyPage((query) => webhooks().deliveries(id, query));
      output.answer(items, () => deliveryTable(items));
    });
  webhook
    .command("redeliver")
    .argument("<webhook>", "its id")
    .argument("<delivery>", "id of what is to be sent again")
    .description("send an event again, under the same id")
    .action(async function (this: Command, id: string, deliveryId: string) {
      const { webhooks, output } = contextOf(this);
      const delivery = await webhooks().redeliver(id, deliveryId);
      output.answer(delivery, () => deliveryTable([delivery]));
    });
}

function describe({ id, state, reason, url, events, description }: Webhook): string[] {
  return fields({
    webhook: `${id} (${state}${reason === null ? "" : `: ${reason}`})`,
    url,
    events: events.join(", "),
    ...(description === "" ? {} : { for: description }),
  });
}

function deliveryTable(items: readonly WebhookDelivery[]): string[] {
  return table(
    ["delivery", "event", "state", "tries", "status", "error", "next try"],
    items.map(({ id, payload, state, tries, status, error, dueAt }) => [
      id,
      payload.type,
      state,
      tries,
      status,
      error,
      dueAt,
    ]),
  );
}

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { z } from 'zod';
import { notifySettings } from './settings-notify.ts';

const address = z.object(notifySettings).shape.XVAULT_PUBLIC_URL;

test('a public address is an origin people can follow: https, or http where it stays on this machine', () => {
  for (const [given, read] of [
    ['https://xvault.example.com', 'https://xvault.example.com'],
    ['https://xvault.example.com:8443/', 'https://xvault.example.com:8443'],
    ['http://localhost:8080', 'http://localhost:8080'],
    ['http://[::1]:8080', 'http://[::1]:8080'],
  ] as const) {
    assert.equal(address.parse(given), read);
  }
  for (const [given, says] of [
    ['xvault.example.com', /expected https:/],
    ['javascript:alert(1)', /expected https:/],
    ['http://xvault.example.com', /expected https, for tokens/],
    ['https://me:secret@xvault.example.com', /without anything/],
    ['https://xvault.example.com/?token=x', /without anything/],
    ['https://xvault.example.com/backup', /without anything/],
  ] as const) {
    const { error } = address.safeParse(given);
    assert.match(error?.issues[0]?.message ?? '', says, given);
  }
});

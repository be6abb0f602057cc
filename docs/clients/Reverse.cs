// Reverses redeemed points, and prints the id of the reversal. Requires .NET 8 or later:
//   dotnet run HOST USER SECRET REDEMPTION_ID CUSTOMER_ID [POINTS]
// HOST is a URL such as http://127.0.0.1:8000. Without POINTS, all remaining points are reversed.

using System;
using System.Collections.Generic;
using System.Net;
using System.Net.Http;
using System.Net.Http.Headers;
using System.Text;
using System.Text.Json;
using System.Threading.Tasks;

public static class Reverse
{
    private const int Tries = 5;

    private static readonly HttpClient Http = new HttpClient { Timeout = TimeSpan.FromSeconds(10) };

    public static async Task<int> Main(string[] arguments)
    {
        if (arguments.Length != 5 && arguments.Length != 6)
        {
            Console.Error.WriteLine("usage: Reverse HOST USER SECRET REDEMPTION_ID CUSTOMER_ID [POINTS]");
            return 2;
        }
        // Use one key for each return. A till that may be switched off before the reply must store the key with the return.
        var key = Environment.GetEnvironmentVariable("IDEMPOTENCY_KEY") ?? Guid.NewGuid().ToString();
        var body = Body(arguments[3], arguments[4], arguments.Length == 6 ? arguments[5] : null);
        try
        {
            Console.WriteLine(ReversalId(await Send(arguments[0], arguments[1], arguments[2], body, key)));
            return 0;
        }
        catch (InvalidOperationException refusal)
        {
            Console.Error.WriteLine("not reversed: " + refusal.Message);
            return 1;
        }
    }

    private static string Body(string redemptionId, string customerId, string? points)
    {
        var members = new Dictionary<string, object>
        {
            ["redemptionId"] = redemptionId,
            ["identifier"] = new Dictionary<string, string> { ["type"] = "ID", ["value"] = customerId },
        };
        if (points != null)
        {
            members["pointsToBeReversed"] = points;
        }
        return JsonSerializer.Serialize(members);
    }

    // Returns the reply. If the server is busy or the connection fails, sends the request again with the same key.
    private static async Task<string> Send(string host, string user, string secret, string body, string key)
    {
        for (var attempt = 1; ; attempt++)
        {
            var wait = TimeSpan.FromSeconds(attempt);
            try
            {
                using var request = new HttpRequestMessage(HttpMethod.Post, host + "/v2/points/reverse");
                var credentials = Convert.ToBase64String(Encoding.UTF8.GetBytes(user + ":" + secret));
                request.Headers.Authorization = new AuthenticationHeaderValue("Basic", credentials);
                request.Headers.Add("Idempotency-Key", key);
                request.Content = new StringContent(body, Encoding.UTF8, "application/json");
                using var response = await Http.SendAsync(request);
                var isBusy = response.StatusCode is HttpStatusCode.Conflict or HttpStatusCode.ServiceUnavailable;
                if (!isBusy || attempt == Tries)
                {
                    return await response.Content.ReadAsStringAsync();
                }
                if (response.Headers.TryGetValues("Retry-After", out var seconds))
                {
                    wait = TimeSpan.FromSeconds(int.Parse(string.Concat(seconds)));
                }
            }
            catch (Exception error) when (error is HttpRequestException or TaskCanceledException)
            {
                if (attempt == Tries)
                {
                    throw new InvalidOperationException("no reply: " + error.Message + "; try again with the same key");
                }
            }
            await Task.Delay(wait);
        }
    }

    // A success has an orgId. Note: in the engine's error dialect, a failure may have HTTP status 200.
    private static string ReversalId(string reply)
    {
        using var json = JsonDocument.Parse(reply);
        if (json.RootElement.TryGetProperty("orgId", out _))
        {
            return json.RootElement.GetProperty("reversalId").GetString()!;
        }
        var error = json.RootElement.GetProperty("errors")[0];
        throw new InvalidOperationException(
            error.GetProperty("code").GetInt32() + " " + error.GetProperty("message").GetString()
            + ": " + error.GetProperty("reason").GetString());
    }
}

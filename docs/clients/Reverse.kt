// Reverses redeemed points, and prints the id of the reversal. Requires Java 11 or later, and no libraries:
//   kotlinc Reverse.kt -include-runtime -d reverse.jar
//   java -jar reverse.jar HOST USER SECRET REDEMPTION_ID CUSTOMER_ID [POINTS]
// HOST is a URL such as http://127.0.0.1:8000. Without POINTS, all remaining points are reversed.

import java.io.IOException
import java.net.URI
import java.net.http.HttpClient
import java.net.http.HttpRequest
import java.net.http.HttpResponse
import java.time.Duration
import java.util.Base64
import java.util.UUID
import kotlin.system.exitProcess

const val TRIES = 5

class NotReversed(message: String) : Exception(message)

fun main(arguments: Array<String>) {
    if (arguments.size !in 5..6) {
        System.err.println("usage: Reverse HOST USER SECRET REDEMPTION_ID CUSTOMER_ID [POINTS]")
        exitProcess(2)
    }
    // Use one key for each return. A till that may be switched off before the reply must store the key with the return.
    val key = System.getenv("IDEMPOTENCY_KEY") ?: UUID.randomUUID().toString()
    val request = request(arguments[0], arguments[1], arguments[2], body(arguments[3], arguments[4], arguments.getOrNull(5)), key)
    try {
        println(reversalId(send(request)))
    } catch (refusal: NotReversed) {
        System.err.println("not reversed: " + refusal.message)
        exitProcess(1)
    }
}

fun body(redemptionId: String, customerId: String, points: String?): String {
    val identifier = member("type", "ID") + "," + member("value", customerId)
    val amount = if (points == null) "" else "," + member("pointsToBeReversed", points)
    return "{" + member("redemptionId", redemptionId) + "," + quoted("identifier") + ":{" + identifier + "}" + amount + "}"
}

fun member(name: String, value: String): String = quoted(name) + ":" + quoted(value)

fun quoted(text: String): String = "\"" + text.replace("\\", "\\\\").replace("\"", "\\\"") + "\""

fun request(host: String, user: String, secret: String, body: String, key: String): HttpRequest {
    val credentials = Base64.getEncoder().encodeToString((user + ":" + secret).toByteArray())
    return HttpRequest.newBuilder(URI.create(host + "/v2/points/reverse"))
        .timeout(Duration.ofSeconds(10))
        .header("Authorization", "Basic " + credentials)
        .header("Content-Type", "application/json")
        .header("Idempotency-Key", key)
        .POST(HttpRequest.BodyPublishers.ofString(body))
        .build()
}

/** Returns the reply. If the server is busy or the connection fails, sends the request again with the same key. */
fun send(request: HttpRequest): String {
    val http = HttpClient.newBuilder().connectTimeout(Duration.ofSeconds(10)).build()
    for (attempt in 1..TRIES) {
        var seconds = attempt.toLong()
        try {
            val response = http.send(request, HttpResponse.BodyHandlers.ofString())
            if (response.statusCode() !in listOf(409, 503) || attempt == TRIES) {
                return response.body()
            }
            seconds = response.headers().firstValueAsLong("Retry-After").orElse(seconds)
        } catch (error: IOException) {
            if (attempt == TRIES) {
                throw NotReversed("no reply: " + error.message + "; try again with the same key")
            }
        }
        Thread.sleep(seconds * 1000)
    }
    throw NotReversed("no reply")
}

/** Returns the id of a success, which has an orgId. Note: in the engine's error dialect, a failure may have HTTP status 200. */
fun reversalId(reply: String): String {
    if (reply.contains(quoted("orgId") + ":")) {
        return text(reply, "reversalId")
    }
    // A failure has exactly one error, so the first code after "errors" is its code.
    val error = reply.substringAfter(quoted("errors"))
    val code = Regex(quoted("code") + ":([0-9]+)").find(error)?.groupValues?.get(1)
    throw NotReversed(code + " " + text(error, "message") + ": " + text(error, "reason"))
}

/** Returns the string of the first member of this name. Use a JSON library instead if you have one. */
fun text(json: String, name: String): String {
    val member = Regex(quoted(name) + ":\"((?:[^\"\\\\]|\\\\.)*)\"")
    return member.find(json)?.groupValues?.get(1) ?: ""
}
